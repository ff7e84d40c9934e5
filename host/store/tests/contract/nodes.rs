//! The nodes that share a store.

use heddle_model::NodeId;
use heddle_store::{NodeReport, Store};

fn report(connections: u64) -> NodeReport {
    NodeReport {
        state: "serving".to_owned(),
        roles: vec!["gateway".to_owned(), "worker".to_owned()],
        version: "1.2.3".to_owned(),
        started_at: 7,
        clients: "127.0.0.1:7600".to_owned(),
        admin: "[::1]:7601".to_owned(),
        generation: 3,
        connections,
        partitions: 12,
        derive_lag: 1,
        archive_lag: 2,
    }
}

pub(crate) async fn a_node_is_there_as_it_said_last(store: &Store) {
    let (one, two) = (NodeId::new("one").unwrap(), NodeId::new("two").unwrap());
    assert_eq!(store.nodes.nodes().await.unwrap(), []);
    store.nodes.beat(&two, &report(1)).await.unwrap();
    store.nodes.beat(&one, &report(2)).await.unwrap();
    store.nodes.beat(&two, &report(5)).await.unwrap();
    let rows = store.nodes.nodes().await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.node.clone(), row.report.clone())).collect();
    assert_eq!(seen, [(one.clone(), report(2)), (two.clone(), report(5))]);
    // By the store's clock, so that it does not matter what the nodes' clocks say.
    assert!(rows.iter().all(|row| row.age_ms < heddle_store::NODE_FORGOTTEN_MS), "{rows:?}");
    store.nodes.leave(&two).await.unwrap();
    store.nodes.leave(&two).await.unwrap();
    let left = store.nodes.nodes().await.unwrap();
    assert_eq!(left.into_iter().map(|row| row.node).collect::<Vec<_>>(), [one]);
}
