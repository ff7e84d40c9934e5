//! What every store does while what it stands on is away, and when that is back. All rules of one outage go through it together, each with users,
//! groups and partitions of its own.

mod rules;
mod stage;

use stage::Stage;

/// Runs every rule through one outage.
async fn go_through(stage: &Stage) {
    let [archived, asked, changed] = [0, 1, 2].map(|rule| stage.user(rule));
    tokio::join!(
        rules::an_archiver_loses_and_doubles_nothing_and_no_batch_is_there_in_part(stage, &archived),
        rules::a_question_is_answered_as_before_or_refused_in_time(stage, &asked),
        rules::a_change_is_made_or_its_caller_told_and_nothing_goes_back(stage, &changed),
    );
}

/// Of each backend the ways in which what it stands on can be away, each a test.
macro_rules! outages {
    ($($backend:ident: $($outage:ident)+;)+) => {
        $(mod $backend {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $outage() {
                if let Some(stage) = super::Stage::$outage().await {
                    super::go_through(&stage).await;
                }
            })+
        })+
    };
}

outages! {
    sqlite: while_its_file_is_locked_by_somebody;
    postgres: while_its_server_is_stopped while_its_server_stands_still;
    shards: while_one_of_them_is_stopped while_the_main_one_is_stopped;
}
