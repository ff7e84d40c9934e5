//! What every registry, bus and keyed state must do: one function per rule, run on each implementation.

mod bus;
mod outages;
mod registry;
mod states;
mod worlds;

/// Makes a test of each rule, in a module per world.
macro_rules! contract {
    ($($world:ident)*) => {
        $(contract! { @ $world
            registry: a_connection_is_found_from_every_node
            registry: one_connection_of_several_is_taken_away_by_its_id
            registry: no_node_takes_away_the_connection_of_another
            registry: a_page_of_users_is_answered_in_its_order
            registry: a_node_knows_its_own_connections_by_itself
            registry: a_node_that_dies_takes_its_routes_with_it
            registry: a_node_that_leaves_counts_no_more
            registry: a_node_that_starts_anew_has_none_of_its_old_routes
            registry: names_may_have_any_characters_that_ids_may_have
            registry: connections_come_and_go_at_once
            bus: what_is_sent_arrives_in_order_at_its_node_and_no_other
            bus: what_a_node_sends_itself_is_there_at_once
            bus: a_broadcast_reaches_every_node_once
            bus: what_is_sent_to_nobody_reaches_nobody
            bus: a_bus_that_lost_nothing_says_so
            states: a_state_is_read_as_it_was_stored_by_whoever_stored_it
            states: a_change_needs_the_version_that_is_there
            states: of_many_changes_at_once_none_is_lost
            states: a_state_ends_with_its_time_and_its_version_never_returns
            states: no_bytes_or_no_time_forget
        })*
    };
    (@ $world:ident $($subject:ident: $rule:ident)*) => {
        mod $world {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(world) = crate::worlds::$world().await {
                    crate::$subject::$rule(&world).await;
                }
            })*
        }
    };
}

/// Makes a test of each way in which what a world stands on can be away; or says why there is none.
macro_rules! outages {
    ($($world:ident $(has none: $why:literal)? $(: $($outage:ident as $how:ident)+)?;)+) => {
        mod while_its_servers_are {
            $(mod $world {
                $(#[test]
                fn nothing_that_it_stands_on_can_be_away() {
                    heddle_test_servers::say(concat!("outages are not applicable to ", stringify!($world), ": ", $why));
                })?
                $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $outage() {
                    if let Some(world) = crate::worlds::$world().await {
                        crate::outages::go_through(world, crate::worlds::Outage::$how).await;
                    }
                })+)?
            })+
        }
    };
}

contract! { embedded redis redis_cluster redis_sentinel }

outages! {
    embedded has none: "they are memory of the process that asks, without a server or a network";
    redis: dead as Dead frozen as Frozen;
    redis_cluster: dead as Dead frozen as Frozen;
    redis_sentinel: dead as Dead frozen as Frozen;
}
