//! What every store must do, as checks over its ports. Another backend joins by a function that opens it, and one more line at the end.

mod archive;
mod catalog;
mod conversations;
mod denials;
mod devices;
mod directory;
mod epochs;
mod fixture;
mod groups;
mod history;
mod nodes;
mod outages;
mod rebuild;

use std::sync::{Arc, Once};

use heddle_model::SystemClock;
use heddle_store::{PostgresConfig, PostgresShards, PostgresStore, SqliteStore, Store, StoreConfig};
use heddle_test_servers::{Postgres, or_skip, say};

/// An empty store, and what must live as long as it.
struct Opened {
    store: Store,
    _directory: Option<tempfile::TempDir>,
}

async fn sqlite() -> Option<Opened> {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig::at(directory.path().join("store.db"));
    let store = SqliteStore::open(config, Arc::new(SystemClock::new())).await.unwrap().store();
    Some(Opened { store, _directory: Some(directory) })
}

/// A database of its own on the one server of this process.
async fn postgres() -> Option<Opened> {
    static TOLD: Once = Once::new();
    let server = or_skip(Postgres::shared())?;
    let config = PostgresConfig { connections_max: 3, ..PostgresConfig::at(server.database()) };
    let opened = PostgresStore::open(config, Arc::new(SystemClock::new())).await.unwrap();
    TOLD.call_once(|| say(&format!("PostgreSQL {}", opened.server_version())));
    Some(Opened { store: opened.store(), _directory: None })
}

/// A main database and two that share its archive.
async fn shards() -> Option<Opened> {
    let server = or_skip(Postgres::shared())?;
    let config = |url| PostgresConfig { connections_max: 3, ..PostgresConfig::at(url) };
    let (main, shards) = (config(server.database()), vec![config(server.database()), config(server.database())]);
    let opened = PostgresShards::open(main, shards, Arc::new(SystemClock::new())).await.unwrap();
    Some(Opened { store: opened.store(), _directory: None })
}

/// One test for each check.
macro_rules! suite {
    ($backend:ident: $($subject:ident { $($check:ident),+ $(,)? })+) => {
        mod $backend {
            $(mod $subject {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    if let Some(opened) = crate::$backend().await {
                        crate::$subject::$check(&opened.store).await;
                    }
                })+
            })+
        }
    };
}

/// Every check, on one backend.
macro_rules! checks {
    ($backend:ident) => {
        suite! { $backend:
            archive {
                a_stream_reads_back_in_order_with_its_cursor,
                a_stream_is_paged_by_position_and_limit,
                a_record_is_found_by_place_and_its_message_by_id,
                a_point_of_a_stream_is_found_by_time_and_by_position,
                cursors_only_grow,
                a_derived_cursor_is_kept_and_only_grows,
                receipts_only_grow_and_read_raises_delivered,
                a_batch_that_cannot_be_written_leaves_nothing,
                records_that_were_given_up_are_kept,
                odd_ids_and_large_bodies_come_back_as_they_were,
            }
            history {
                direct_history_is_sorted_by_lamport_then_id,
                pages_go_both_ways_and_say_whether_there_is_more,
                an_unknown_anchor_gives_an_empty_page,
                pulled_messages_come_within_the_viewers_intervals_only,
                an_own_copy_and_its_pulled_record_come_once,
                a_pulled_message_for_a_few_is_hidden_from_the_rest,
                a_discarded_message_is_in_nobodys_history,
                history_tells_receipts_and_both_cursors,
                a_message_of_an_older_partition_count_still_reads,
            }
            conversations {
                conversations_come_newest_first_with_unread_and_last,
                reading_lowers_unread_and_never_raises_it,
                a_group_without_a_message_is_listed_with_its_name,
                a_pulled_group_counts_what_others_sent,
                a_muted_conversation_says_so,
            }
            groups {
                a_group_keeps_every_interval,
                a_change_that_is_not_newer_changes_nothing,
                a_deleted_group_has_no_open_interval,
                heads_are_what_the_member_may_pull,
                users_share_a_group_only_while_both_are_in_it,
                a_change_of_an_unknown_group_changes_nothing,
            }
            devices {
                devices_keep_the_larger_position_and_the_later_time,
                a_reset_moves_a_position_back,
                a_device_that_was_set_back_hears_nothing_of_the_turn_before,
                the_least_recently_seen_devices_are_forgotten,
                a_read_position_only_grows,
            }
            directory {
                a_user_is_known_since_the_earliest_time,
                contacts_are_directed,
                mutes_are_set_and_taken_back,
                a_generation_and_its_audit_row_come_together_or_not_at_all,
                a_plugin_is_added_once,
                what_makes_no_generation_is_audited_too,
            }
            catalog {
                files_above_the_bound_go_oldest_first_and_come_back_when_they_are_added,
                generations_and_audit_keep_the_newest_and_what_is_needed,
            }
            denials {
                a_block_is_directed_and_asked_for_twice_changes_nothing,
                a_user_blocks_at_most_so_many,
                what_changed_since_a_version_is_told_once_in_order,
                changes_are_told_in_pages_and_lack_nothing,
                what_was_over_long_ago_is_forgotten_and_that_is_said,
                a_revocation_and_its_audit_row_come_together,
                changes_at_once_get_one_version_each,
            }
            epochs {
                a_log_keeps_its_epoch_and_another_gets_the_next,
                a_log_that_lost_records_gets_a_new_epoch,
                an_older_log_that_comes_back_gets_a_new_epoch,
                a_new_life_of_the_log_begins_after_a_hole,
                a_log_is_cut_anew_once_everything_below_the_cut_is_covered,
            }
            nodes {
                a_node_is_there_as_it_said_last,
            }
            rebuild {
                a_stretch_reads_back_and_is_replaced_whole,
                what_may_be_pulled_reads_back,
                a_group_goes_back_and_its_changes_are_applied_again,
                receipts_are_cut_back_and_said_again,
            }
        }
    };
}

checks!(sqlite);
checks!(postgres);
checks!(shards);
