//! Rules of `Registry`.

use heddle_model::ConnectionId;

use crate::worlds::{World, device, until, user};

pub(crate) async fn a_connection_is_found_from_every_node(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    n1.connect("alice", 1, "phone").await;
    n2.connect("alice", 1, "laptop").await;
    let both = [n1.route(1, "phone"), n2.route(1, "laptop")];
    assert_eq!(n1.routes("alice").await, both);
    assert_eq!(n2.routes("alice").await, both);
    assert_eq!(n2.routes("bob").await, []);
}

pub(crate) async fn one_connection_of_several_is_taken_away_by_its_id(world: &World) {
    let n1 = world.node("n1").await;
    n1.connect("alice", 1, "phone").await;
    n1.connect("alice", 2, "phone").await;
    n1.registry.unregister(&user("alice"), ConnectionId(1)).await.unwrap();
    n1.registry.unregister(&user("alice"), ConnectionId(9)).await.unwrap();
    n1.registry.unregister(&user("nobody"), ConnectionId(2)).await.unwrap();
    assert_eq!(n1.routes("alice").await, [n1.route(2, "phone")]);
    n1.registry.unregister(&user("alice"), ConnectionId(2)).await.unwrap();
    n1.registry.unregister(&user("alice"), ConnectionId(2)).await.unwrap();
    assert_eq!(n1.registry.online(&[user("alice")]).await.unwrap(), [false]);
}

pub(crate) async fn no_node_takes_away_the_connection_of_another(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    n1.connect("alice", 7, "phone").await;
    n2.registry.unregister(&user("alice"), ConnectionId(7)).await.unwrap();
    assert_eq!(n2.routes("alice").await, [n1.route(7, "phone")]);
}

pub(crate) async fn a_page_of_users_is_answered_in_its_order(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    let users: Vec<_> = (0..1_000).map(|n| user(&format!("u{n}"))).collect();
    for (n, name) in users.iter().enumerate().filter(|(n, _)| n % 3 == 0) {
        let node = if n % 2 == 0 { &n1 } else { &n2 };
        node.registry.register(name, ConnectionId(n as u64), &device("phone")).await.unwrap();
    }
    let online = n1.registry.online(&users).await.unwrap();
    assert_eq!(online, (0..1_000).map(|n| n % 3 == 0).collect::<Vec<_>>());
    let routes = n2.registry.routes(&users).await.unwrap();
    for (n, routes) in routes.into_iter().enumerate() {
        let node = if n % 2 == 0 { &n1 } else { &n2 };
        assert_eq!(routes, if n % 3 == 0 { vec![node.route(n as u64, "phone")] } else { vec![] }, "u{n}");
    }
    assert_eq!(n1.registry.routes(&[]).await.unwrap(), Vec::<Vec<_>>::new());
    assert_eq!(n1.registry.online(&[]).await.unwrap(), Vec::<bool>::new());
}

pub(crate) async fn a_node_knows_its_own_connections_by_itself(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    n1.connect("alice", 1, "phone").await;
    n2.connect("alice", 2, "laptop").await;
    assert_eq!(n1.registry.here(&user("alice")), [n1.route(1, "phone")]);
    n1.registry.unregister(&user("alice"), ConnectionId(1)).await.unwrap();
    assert_eq!(n1.registry.here(&user("alice")), []);
}

pub(crate) async fn a_node_that_dies_takes_its_routes_with_it(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    n1.connect("alice", 1, "phone").await;
    n2.connect("alice", 1, "laptop").await;
    n1.connect("bob", 2, "phone").await;
    let last = n2.route(1, "laptop");
    world.kill(n1).await;
    until("the route of a dead node counts no more", async || n2.routes("alice").await == [last.clone()]).await;
    until("its users are gone", async || {
        n2.registry.online(&[user("bob"), user("alice")]).await.unwrap() == [false, true]
    })
    .await;
    assert_eq!(n2.routes("bob").await, []);
    until("it is not listed", async || n2.registry.nodes().await.unwrap() == [n2.name.clone()]).await;
}

pub(crate) async fn a_node_that_leaves_counts_no_more(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    n1.connect("alice", 1, "phone").await;
    assert_eq!(n2.registry.nodes().await.unwrap(), [n1.name.clone(), n2.name.clone()]);
    n1.registry.leave().await;
    until("who left is gone", async || n2.routes("alice").await.is_empty()).await;
    assert_eq!(n2.registry.nodes().await.unwrap(), std::slice::from_ref(&n2.name));
}

pub(crate) async fn a_node_that_starts_anew_has_none_of_its_old_routes(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    n1.connect("alice", 1, "phone").await;
    assert_eq!(n2.routes("alice").await.len(), 1);
    world.kill(n1).await;
    let n1 = world.node("n1").await;
    until("what the last life left counts no more", async || n2.routes("alice").await.is_empty()).await;
    n1.connect("bob", 1, "phone").await;
    assert_eq!(n2.routes("bob").await, [n1.route(1, "phone")]);
    assert_eq!(n1.routes("alice").await, []);
}

pub(crate) async fn names_may_have_any_characters_that_ids_may_have(world: &World) {
    let strange = world.node("n/1:{x} ü/00000000000000ff/3").await;
    let names = ["a/b", "{alice}", "a:b:c", "Ünïcødé 😀", "*", "a b", "{", "}{"];
    for (n, name) in names.into_iter().enumerate() {
        strange.connect(name, n as u64, "phone/{1} 😀").await;
    }
    for (n, name) in names.into_iter().enumerate() {
        assert_eq!(strange.routes(name).await, [strange.route(n as u64, "phone/{1} 😀")], "{name}");
    }
}

pub(crate) async fn connections_come_and_go_at_once(world: &World) {
    let n1 = world.node("n1").await;
    let come_and_go = (0..200u64).map(|n| {
        let registry = std::sync::Arc::clone(&n1.registry);
        tokio::spawn(async move {
            let name = user(&format!("u{}", n % 10));
            registry.register(&name, ConnectionId(n), &device("phone")).await.unwrap();
            if n % 2 == 0 {
                registry.unregister(&name, ConnectionId(n)).await.unwrap();
            }
        })
    });
    for task in come_and_go.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for n in 0..10u64 {
        let mut left: Vec<u64> = n1.routes(&format!("u{n}")).await.iter().map(|route| route.connection.0).collect();
        left.sort_unstable();
        let odd: Vec<u64> = (0..200).filter(|c| c % 10 == n && c % 2 == 1).collect();
        assert_eq!(left, odd);
    }
}
