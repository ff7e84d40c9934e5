//! The archive is an idempotent function of the log: an archiver that starts again writes what was written, in batches of other lengths.

use heddle_model::ReceiptStatus;
use heddle_store::{ArchiveBatch, ReceiptRow};
use proptest::prelude::*;

use crate::fixture::*;
use crate::steps::{batch, batches, parts, steps};
use crate::{dump, open, run};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn batches_written_twice_or_overlapping_leave_the_rows_of_one_batch(
        steps in steps(), parts in parts(),
    ) {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let (once, often) = (directory.path().join("once.db"), directory.path().join("often.db"));
            let store = open(&once).await;
            store.store().archive.write(batch(&steps, 0..steps.len())).await.unwrap();
            store.close().await;

            let store = open(&often).await;
            let archive = store.store().archive;
            for batch in batches(&steps, &parts) {
                archive.write(batch).await.unwrap();
            }
            store.close().await;
            assert_eq!(dump(&often).await, dump(&once).await);
        });
    }

    #[test]
    fn cursors_receipts_reads_and_devices_only_go_forward(moves in proptest::collection::vec((0..4u8, 0..40u64), 1..40)) {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let opened = open(&directory.path().join("store.db")).await;
            let store = opened.store();
            let (alice, with_bob) = (user("alice"), conversation("user:bob"));
            let (mut archived, mut delivered, mut read, mut own) = (0, 0, 0, 0);
            for (what, to) in moves {
                let receipt = |status| ReceiptRow {
                    sender: alice.clone(), conversation: with_bob.clone(), by: user("bob"), status, order: at(to), at: to,
                };
                let mut batch = ArchiveBatch::default();
                match what {
                    0 => batch.cursors.push(cursor(home("alice"), to)),
                    1 => batch.receipts.push(receipt(ReceiptStatus::Delivered)),
                    2 => batch.receipts.push(receipt(ReceiptStatus::Read)),
                    _ => store.devices.save_read(&alice, &with_bob, at(to)).await.unwrap(),
                }
                store.archive.write(batch).await.unwrap();
                match what {
                    0 => archived = archived.max(to),
                    1 => delivered = delivered.max(to),
                    2 => (read, delivered) = (read.max(to), delivered.max(to)),
                    _ => own = own.max(to),
                }
                let cursors = store.archive.cursors().await.unwrap();
                assert_eq!(cursors.first().map_or(0, |cursor| cursor.upto.0), archived);
                assert!(cursors.iter().all(|found| *found == cursor(home("alice"), archived)));
                let state = store.archive.receipt(&alice, &with_bob, &user("bob")).await.unwrap();
                assert_eq!(state.map_or((0, 0), |state| (state.delivered.0, state.read.0)), (delivered, read));
                let reads = store.devices.reads(&alice).await.unwrap();
                assert_eq!(reads.first().map_or(0, |(_, order)| order.0), own);
            }
            opened.close().await;
        });
    }
}
