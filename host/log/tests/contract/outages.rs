//! What every log does when something that it stands on is away, and when that is back. All rules of one outage go through it together, each on
//! partitions of its own: a broker takes seconds to die and to come.

mod rules;
mod stage;

use heddle_test_servers::say;

use stage::Stage;

/// Runs every rule through one outage.
async fn go_through(stage: &Stage) {
    let rules = futures_util::future::join3(
        rules::appends_fail_in_time_and_stand_once_when_they_are_sent_again(stage, stage.lane(0)),
        rules::what_was_acknowledged_is_read_as_before_and_no_question_hangs(stage, stage.lane(1)),
        rules::a_derivation_that_is_interrupted_is_whole_or_its_cursor_stands(stage, stage.lane(2)),
    );
    rules.await;
}

/// Of each implementation the ways in which what it stands on can be away, each a test; or why there is none.
macro_rules! outages {
    ($($implementation:ident $(has none: $why:literal)? $(: $($outage:ident)+)?;)+) => {
        /// Every implementation of the contract is here, so that none is left out unsaid.
        const IMPLEMENTATIONS: &[&str] = &[$(stringify!($implementation)),+];

        $(mod $implementation {
            $(#[test]
            fn nothing_that_it_stands_on_can_be_away() {
                super::say(concat!("outages are not applicable to ", stringify!($implementation), ": ", $why));
            })?
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $outage() {
                if let Some(stage) = super::Stage::$outage().await {
                    super::go_through(&stage).await;
                }
            })+)?
        })+
    };
}

outages! {
    embedded: when_its_disk_is_full when_a_sync_fails;
    memory has none: "it is memory of the process that asks, without a disk, a server or a thread of its own";
    kafka: when_its_broker_dies when_its_broker_stands_still;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_implementation_has_an_outage_or_says_why_not() {
    for (name, _log, _directory) in crate::logs().await {
        assert!(IMPLEMENTATIONS.contains(&name), "{name} has no outages");
    }
}
