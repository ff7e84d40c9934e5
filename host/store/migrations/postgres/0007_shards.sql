-- Which of several databases this is, if the archive is spread over some: `whole` names all of them together, `count` says how many shards there are.
-- In a shard one row, its place in the list, from 0. In the main database place -1, and a row for each shard that was begun.
CREATE TABLE shards (
    place bigint PRIMARY KEY,
    whole text NOT NULL,
    count bigint NOT NULL
);
