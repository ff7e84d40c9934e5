//! Several nodes that count together over one store of states in memory, whatever that does to them.

mod line;
mod nodes;

use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;
use heddle_policy::RefusalCode;
use heddle_registry::KeyedStates as _;
use proptest::prelude::*;

use line::{Line, Trouble};
use nodes::{Chain, Node, allowed, limit, nodes};

const TALLY: &str = "tally:1:user:alice";

fn count(bytes: &[u8]) -> u32 {
    bytes.try_into().map(u32::from_le_bytes).unwrap_or_default()
}

async fn stored(line: &Line) -> u32 {
    line.inner.get(TALLY).await.unwrap().map_or(0, |state| count(&state.bytes))
}

#[tokio::test(start_paused = true)]
async fn what_all_nodes_let_pass_is_one_limit_and_not_one_each() {
    let line = Line::new();
    let nodes = nodes(3, &line, &[limit(10)]).await;
    let mut passed = 0;
    for _ in 0..10 {
        for node in &nodes {
            passed += usize::from(node.ask("alice").await.denied.is_none());
        }
    }
    assert_eq!((passed, stored(&line).await), (10, 10));
    assert!(nodes[2].ask("bob").await.denied.is_none(), "others have their own count");
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_at_one_node_are_counted_in_one_change() {
    let line = Line::new();
    let nodes = nodes(1, &line, &[limit(60)]).await;
    let answers = join_all((0..100).map(|_| nodes[0].ask("alice"))).await;
    assert_eq!((allowed(&answers), stored(&line).await), (60, 60));
    assert!(line.swaps.load(SeqCst) < 10, "{} changes", line.swaps.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn who_was_overtaken_is_asked_again_with_what_is_there_now() {
    for (there, passes) in [(8, true), (10, false)] {
        let line = Line::new();
        let nodes = nodes(1, &line, &[limit(10)]).await;
        // Between its reading and its change others come to `there`.
        line.trouble(Trouble::Overtaken { key: TALLY, bytes: u32::to_le_bytes(there).to_vec() });
        let answer = nodes[0].ask("alice").await;
        assert_eq!(answer.denied.is_none(), passes);
        assert_eq!(stored(&line).await, if passes { 9 } else { 10 });
        assert_eq!(&*answer.decisions[0].verdict, if passes { "allow" } else { "deny" });
        // What is recorded is what decided.
        let recorded = nodes[0].recorded();
        assert_eq!(recorded.len(), 1, "{recorded:?}");
        assert_eq!(recorded[0].0, there);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_overtaken_each_time_is_not_let_in_uncounted() {
    let line = Line::new();
    let nodes = nodes(1, &line, &[limit(10)]).await;
    line.trouble(Trouble::AlwaysOvertaken);
    let refused = nodes[0].ask("alice").await.denied.expect("it cannot be counted");
    assert_eq!((refused.code, refused.retryable), (RefusalCode::RateLimited, true));
    assert_eq!(line.swaps.load(SeqCst), 3);
    assert!(nodes[0].recorded().is_empty(), "nothing that a plugin said has decided");
    line.trouble(Trouble::None);
    assert!(nodes[0].ask("alice").await.denied.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_the_others_each_node_counts_alone_asks_them_seldom_and_counts_with_them_again() {
    for trouble in [Trouble::Fails, Trouble::Hangs] {
        let line = Line::new();
        let nodes = nodes(2, &line, &[limit(5)]).await;
        for node in &nodes {
            assert!(node.ask("alice").await.denied.is_none());
        }
        line.trouble(trouble);
        let before = line.calls.load(SeqCst);
        // Their copies know what all did until then, as far as they saw it: the first saw one of the two.
        let passed: Vec<usize> =
            vec![allowed(&nodes[0].asks("alice", 10).await), allowed(&nodes[1].asks("alice", 10).await)];
        assert_eq!(passed, [4, 3]);
        assert_eq!(line.calls.load(SeqCst), before + 2, "each asked once, then let it rest");
        line.trouble(Trouble::None);
        assert!(nodes[0].ask("alice").await.denied.is_some(), "it still rests");
        nodes.iter().for_each(|node| node.clock.advance(1_000));
        assert_eq!(allowed(&nodes[0].asks("alice", 5).await) + allowed(&nodes[1].asks("alice", 5).await), 3);
        assert_eq!(stored(&line).await, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rest_grows_while_it_is_in_vain_and_one_command_pays_for_the_others() {
    let line = Line::new();
    let nodes = nodes(1, &line, &[limit(1_000)]).await;
    line.trouble(Trouble::Hangs);
    let mut asked = Vec::new();
    for _ in 0..300 {
        let before = line.calls.load(SeqCst);
        nodes[0].asks("alice", 3).await;
        asked.push(line.calls.load(SeqCst) - before);
        nodes[0].clock.advance(10);
    }
    assert!(asked.iter().all(|calls| *calls <= 1), "{asked:?}");
    // At 0, 0.1, 0.3, 0.7, 1.5 and 2.5 s.
    assert_eq!(asked.iter().sum::<u64>(), 6, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_answer_is_lost_may_count_twice_and_never_not_at_all() {
    let line = Line::new();
    let nodes = nodes(2, &line, &[limit(4)]).await;
    line.trouble(Trouble::LosesAnswers);
    assert!(nodes[0].ask("alice").await.denied.is_none(), "its own copy decides");
    // Whoever stored it gives up too.
    tokio::time::advance(std::time::Duration::from_millis(10)).await;
    tokio::task::yield_now().await;
    assert_eq!(stored(&line).await, 1);
    line.trouble(Trouble::None);
    nodes[0].clock.advance(1_000);
    assert_eq!(allowed(&nodes[0].asks("alice", 5).await) + allowed(&nodes[1].asks("alice", 5).await), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_costs_nobody_anything() {
    let line = Line::new();
    let chain = [
        limit(10),
        Chain { name: "deny", messages: 0, ..limit(0) },
        Chain { name: "alone", shares: false, ..limit(10) },
    ];
    let nodes = nodes(1, &line, &chain).await;
    assert!(nodes[0].ask("alice").await.denied.is_some());
    assert_eq!(stored(&line).await, 0);
    assert_eq!(line.swaps.load(SeqCst), 0);
    // Recorded all the same: they were asked, and these were their answers.
    assert_eq!(nodes[0].recorded().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_shared_is_counted_on_its_node_and_each_command_once() {
    let line = Line::new();
    let alone = Chain { name: "alone", shares: false, ..limit(3) };
    let nodes = nodes(2, &line, &[alone, limit(100)]).await;
    assert_eq!(allowed(&nodes[0].asks("alice", 5).await) + allowed(&nodes[1].asks("alice", 5).await), 6);
    assert_eq!(stored(&line).await, 6);
    let unshared = self::nodes(1, &line, &[alone]).await;
    let before = line.calls.load(SeqCst);
    unshared[0].asks("alice", 5).await;
    assert_eq!(line.calls.load(SeqCst), before, "where no plugin shares, nobody is asked");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_counted_where_it_lives() {
    let line = Line::new();
    let nodes = nodes(1, &line, &[Chain { scopes: r#"["connection", "user"]"#, ..limit(3) }]).await;
    assert_eq!(allowed(&nodes[0].asks("alice", 5).await), 3);
    assert_eq!(line.keys(), [TALLY]);
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_fails_on_what_is_shared_gives_its_turn_to_what_its_manifest_names() {
    let line = Line::new();
    line.inner.swap(TALLY, 0, b"no count", 60_000).await.unwrap();
    let nodes = nodes(1, &line, &[limit(3)]).await;
    let answer = nodes[0].ask("alice").await;
    assert_eq!(answer.denied, None);
    assert_eq!(answer.decisions[0].fallback, Some(heddle_model::Fallback::Builtin));
}

#[tokio::test(start_paused = true)]
async fn state_of_an_older_version_is_brought_along_once() {
    let line = Line::new();
    let older = nodes(1, &line, &[limit(5)]).await;
    assert_eq!(allowed(&older[0].asks("alice", 2).await), 2);
    let newer = older[0].again(&[Chain { version: 2, ..limit(5) }]).await;
    assert_eq!(allowed(&newer.asks("alice", 9).await), 3);
    assert_eq!(line.inner.get("tally:2:user:alice").await.unwrap().map(|state| count(&state.bytes)), Some(5));
}

/// What one node does: so many commands at once.
fn bouts() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0_usize..4, 1_usize..8), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Commands of all nodes at once, in any interleaving, with conflicts that are forced beside those that come.
    #[test]
    fn never_does_more_than_the_limit_pass(bouts in bouts(), limit_is in 1_u32..30, seed in any::<u64>(), forced in 0_u64..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let line = Line::new();
            let nodes = nodes(4, &line, &[limit(limit_is)]).await;
            line.trouble(Trouble::Jitter { seed, forced });
            let asked: usize = bouts.iter().map(|(_, asks)| asks).sum();
            let answers = join_all(bouts.iter().map(|(node, asks)| {
                let node: &Node = &nodes[*node];
                async move { join_all((0..*asks).map(|_| node.ask("alice"))).await }
            })).await;
            let passed: usize = answers.iter().map(|answers| allowed(answers)).sum();
            let most = asked.min(usize::try_from(limit_is).unwrap());
            assert!(passed <= most, "{passed} of {asked}, {limit_is} may");
            assert_eq!(usize::try_from(stored(&line).await).unwrap(), passed, "what passed is counted, and nothing else");
            // Nobody is kept out for good: one after the other, the rest passes.
            line.trouble(Trouble::None);
            let more = allowed(&nodes[0].asks("alice", 40).await);
            assert_eq!(passed + more, usize::try_from(limit_is).unwrap());
        });
    }
}
