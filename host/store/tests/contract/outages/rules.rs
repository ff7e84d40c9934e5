//! The rules: each goes through one outage.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use heddle_model::{DeviceId, Digest, ReceiptStatus};
use heddle_store::{
    ArchiveBatch, AuditEntry, CatalogGeneration, CatalogPlugin, DeviceRow, HistoryAnchor, HistoryQuery, ReceiptRow,
    Store, StoreError, StreamPoint,
};

use super::stage::{LOOK, Stage};
use crate::fixture::*;

/// Events of a batch.
const EVENTS: u64 = 10;

/// The nth batch of somebody's partition, from 1: rows of all kinds, and a cursor at the last of them. Every table that the archiver writes has a part.
fn batch(name: &str, nth: u64) -> ArchiveBatch {
    let last = nth * EVENTS;
    let mut batch = ArchiveBatch { cursors: vec![cursor(home(name), last)], ..ArchiveBatch::default() };
    for id in last - EVENTS + 1..=last {
        batch.records.push(record(home(name), id, Some(id), &format!("m{id}")));
        batch.stream.push(event(name, id, "user:writer", id));
    }
    batch.receipts.push(ReceiptRow {
        sender: user(name),
        conversation: conversation("user:writer"),
        by: user("writer"),
        status: ReceiptStatus::Delivered,
        order: at(last),
        at: last,
    });
    let members = vec![joined(&format!("member-{nth}"))];
    batch.groups.push(if nth == 1 { made(name, last, &[name]) } else { change(name, last, members) });
    batch.users.push((user(&format!("{name}-friend-{nth}")), nth));
    batch
}

/// How many batches are there, each whole, nothing twice.
async fn whole_batches(store: &Store, name: &str) -> Result<u64, StoreError> {
    let page = store.archive.stream(&user(name), home(name), at(0), u32::MAX).await?;
    let positions: Vec<_> = page.rows.iter().map(|row| row.position.0).collect();
    assert_eq!(positions, (1..=page.archived.0).collect::<Vec<_>>(), "the cursor stands at {}", page.archived);
    assert_eq!(page.archived.0 % EVENTS, 0);
    Ok(page.archived.0 / EVENTS)
}

pub(super) async fn an_archiver_loses_and_doubles_nothing_and_no_batch_is_there_in_part(stage: &Stage, name: &str) {
    const BEFORE: u64 = 15;
    let (written, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let enough = AtomicBool::new(false);
    let (of, count) = (&stage.store, || written.load(Ordering::SeqCst));
    // As it does it: each batch again and again until it is written.
    let archiver = async {
        let mut nth = 1;
        while !enough.load(Ordering::SeqCst) {
            let rows = batch(name, nth);
            match stage.tried("a batch", of.archive.write(rows)).await {
                Some(()) => {
                    written.store(nth, Ordering::SeqCst);
                    nth += 1;
                }
                None => {
                    refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    };
    let outage = async {
        stage.until("batches are written", async || count() >= BEFORE).await;
        // In the middle of one.
        stage.broken().await;
        let before = refused.load(Ordering::SeqCst);
        stage.until("a batch is refused", async || refused.load(Ordering::SeqCst) > before).await;
        let stands = count();
        stage.until("it is refused again", async || refused.load(Ordering::SeqCst) > before + 1).await;
        assert_eq!(count(), stands, "something was written to what is away");
        if let Some(found) = stage.tried("a read", whole_batches(of, name)).await {
            // Of the one that was under way nobody knew.
            assert!(found == stands || found == stands + 1, "{stands} were written, {found} are there");
        }
        stage.mended().await;
        let found = stage.stubbornly("it is read again", async || whole_batches(of, name).await).await;
        assert!(found >= stands, "{stands} were written, {found} are there");
        stage.until("batches are written again", async || count() >= stands + BEFORE).await;
        enough.store(true, Ordering::SeqCst);
    };
    tokio::join!(archiver, outage);

    // Again it changes nothing, nor does an older one.
    let last = count();
    let seen = async || {
        let conversations = of.archive.conversations(&user(name), home(name), 9).await.unwrap();
        let receipt = of.archive.receipt(&user(name), &conversation("user:writer"), &user("writer")).await.unwrap();
        let row = of.groups.group(&group(name)).await.unwrap().unwrap();
        assert_eq!(receipt.as_ref().unwrap().delivered, at(last * EVENTS));
        assert_eq!(row.members.len() as u64, last, "{row:?}");
        assert_eq!(of.directory.user_since(&user(&format!("{name}-friend-{last}"))).await.unwrap(), Some(last));
        (whole_batches(of, name).await.unwrap(), conversations, receipt, row)
    };
    let before = seen().await;
    assert_eq!(before.0, last);
    for nth in [last, last - 1, 1] {
        stage.stubbornly("a batch", async || of.archive.write(batch(name, nth)).await).await;
    }
    assert_eq!(seen().await, before);
}

/// What a store says of somebody, by question.
async fn answers(stage: &Stage, name: &str) -> Vec<(&'static str, Option<String>)> {
    let (of, who, other, of_it) = (&stage.store, user(name), user("writer"), group(name));
    let page = HistoryQuery {
        viewer: who.clone(),
        conversation: conversation("user:writer"),
        home: home(name),
        group_home: None,
        anchor: HistoryAnchor::Newest,
        limit: 9,
    };
    let mut answers = Vec::new();
    macro_rules! questions {
        ($($question:ident: $call:expr;)+) => {{
            $(let $question = stage.tried(stringify!($question), $call);)+
            let ($($question,)+) = tokio::join!($($question),+);
            $(answers.push((stringify!($question), $question.map(|answer| format!("{answer:?}"))));)+
        }};
    }
    questions! {
        stream: of.archive.stream(&who, home(name), at(0), 9);
        since: of.archive.stream_since(&who, StreamPoint::Position(at(3)));
        record: of.archive.record(home(name), at(1));
        history: of.archive.history(page);
        conversations: of.archive.conversations(&who, home(name), 9);
        group: of.groups.group(&of_it);
        groups: of.groups.groups_of(&who);
        devices: of.devices.devices(&who);
        reads: of.devices.reads(&who);
        contacts: of.directory.contacts(&who);
        blocks: of.denials.blocks_between(&who, std::slice::from_ref(&other));
        plugin: of.catalog.plugin(Digest::of(b"component"));
    }
    answers
}

pub(super) async fn a_question_is_answered_as_before_or_refused_in_time(stage: &Stage, name: &str) {
    let (of, who, other) = (&stage.store, user(name), user("writer"));
    let plugin = CatalogPlugin {
        digest: Digest::of(b"component"),
        name: "filter".into(),
        version: "1".into(),
        bytes: "component".into(),
        added_at: 1,
    };
    stage.stubbornly("a batch", async || of.archive.write(batch(name, 1)).await).await;
    let device = || DeviceRow::new(DeviceId::new("phone").unwrap(), at(3), 1, 0);
    stage.stubbornly("a device", async || of.devices.save_devices(vec![(who.clone(), device())], 9).await).await;
    stage.stubbornly("a read", async || of.devices.save_read(&who, &conversation("user:writer"), at(2)).await).await;
    stage.stubbornly("a contact", async || of.directory.set_contact(&who, &other, true, 1).await).await;
    stage.stubbornly("a block", async || of.denials.set_block(&who, &other, true, 1, 9).await).await;
    stage.stubbornly("a plugin", async || of.catalog.add_plugin(plugin.clone()).await).await;
    let complete = async || {
        let answers = answers(stage, name).await;
        answers.iter().all(|(_, answer)| answer.is_some()).then_some(answers)
    };
    let before = loop {
        if let Some(before) = complete().await {
            break before;
        }
    };
    stage.broken().await;

    let ask = || answers(stage, name);
    // More at once than there are connections.
    let crowd = async { tokio::join!(ask(), ask(), ask(), ask(), ask()) };
    let crowd = stage.timed("a crowd of questions", crowd).await;
    for during in [crowd.0, crowd.1, crowd.2, crowd.3, crowd.4] {
        for ((question, answer), (_, truth)) in during.iter().zip(&before) {
            assert!(answer.is_none() || answer == truth, "{question} is {answer:?}, and was {truth:?}");
            assert!(!stage.all || answer.is_none(), "{question} was answered by a store that is away: {answer:?}");
        }
    }
    stage.mended().await;
    stage.until("every question is answered as before", async || complete().await.as_ref() == Some(&before)).await;
}

/// What can only grow, as a store has it: the cursors, a device, a read, each 7 or 9; whether the contact is there, and the newest generation with
/// whether its audit row is there.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    derived: u64,
    archived: u64,
    device: u64,
    read: u64,
    contact: bool,
    generation: u64,
}

async fn kept(stage: &Stage, name: &str) -> Option<Kept> {
    let (of, who) = (&stage.store, user(name));
    let derived = stage.tried("derived", of.archive.derived()).await?;
    let cursors = stage.tried("cursors", of.archive.cursors()).await?;
    let devices = stage.tried("devices", of.devices.devices(&who)).await?;
    let reads = stage.tried("reads", of.devices.reads(&who)).await?;
    let contacts = stage.tried("contacts", of.directory.contacts(&who)).await?;
    let newest = stage.tried("a generation", of.catalog.newest_generation()).await?;
    let audit = stage.tried("the audit", of.catalog.audit(9)).await?;
    let generation = newest.map_or(0, |newest| newest.number);
    assert_eq!(audit.len() as u64, generation, "a generation and its row of the audit came apart");
    Some(Kept {
        derived: derived.iter().find(|(partition, _)| *partition == home(name))?.1.0,
        archived: cursors.iter().find(|cursor| cursor.partition == home(name))?.upto.0,
        device: devices.first()?.position.0,
        read: reads.first()?.1.0,
        contact: !contacts.is_empty(),
        generation,
    })
}

/// Raises what can be raised to `to`, all at once; answers whether each was said to be done.
async fn raise(stage: &Stage, name: &str, to: u64) -> [Option<()>; 4] {
    let (of, who) = (&stage.store, user(name));
    let device = DeviceRow::new(DeviceId::new("phone").unwrap(), at(to), 1, 0);
    let rows = ArchiveBatch { cursors: vec![cursor(home(name), to)], ..ArchiveBatch::default() };
    let (derived, of_writer) = ([(home(name), at(to))], conversation("user:writer"));
    let raised = tokio::join!(
        stage.tried("keep derived", of.archive.keep_derived(&derived)),
        stage.tried("a batch", of.archive.write(rows)),
        stage.tried("a device", of.devices.save_devices(vec![(who.clone(), device)], 9)),
        stage.tried("a read", of.devices.save_read(&who, &of_writer, at(to))),
    );
    raised.into()
}

async fn add_generation(stage: &Stage, number: u64) -> Option<bool> {
    let generation = CatalogGeneration {
        number,
        content: Digest::of(b"{}"),
        json: "{}".to_owned(),
        at: 1,
        why: "a test".to_owned(),
    };
    let audit = AuditEntry {
        at: 1,
        who: "operator".to_owned(),
        what: "deploy".to_owned(),
        why: "a test".to_owned(),
        detail: number.to_string(),
    };
    stage.tried("a generation", stage.store.catalog.add_generation(generation, audit)).await
}

pub(super) async fn a_change_is_made_or_its_caller_told_and_nothing_goes_back(stage: &Stage, name: &str) {
    let (of, who, other) = (&stage.store, user(name), user("writer"));
    let raised = async |to| {
        stage.until("all is raised", async || raise(stage, name, to).await.iter().all(Option::is_some)).await;
    };
    raised(7).await;
    stage.until("a generation is added", async || add_generation(stage, 1).await.is_some()).await;
    stage.broken().await;
    // At once, and each in time: writers that share a commit once waited for a lock one after the other.
    let changes = async {
        tokio::join!(
            raise(stage, name, 9),
            stage.tried("a contact", of.directory.set_contact(&who, &other, true, 1)),
            add_generation(stage, 2),
        )
    };
    let (done, listed, added) = stage.timed("changes", changes).await;
    assert!(!stage.all || done == [None; 4] && listed.is_none() && added.is_none(), "{done:?} {listed:?} {added:?}");
    stage.mended().await;

    stage.until("all is read again", async || kept(stage, name).await.is_some()).await;
    let mut after = None;
    while after.is_none() {
        after = kept(stage, name).await;
    }
    let after = after.unwrap();
    for (said, is) in done.into_iter().zip([after.derived, after.archived, after.device, after.read]) {
        assert!(is == 9 || is == 7 && said.is_none(), "{after:?} after {done:?}");
    }
    assert!(after.contact || listed.is_none(), "{after:?} after {listed:?}");
    assert!(after.generation == 2 || after.generation == 1 && added.is_none(), "{after:?} after {added:?}");
    // What comes late, or again, takes nothing back.
    for to in [9, 6, 9] {
        raised(to).await;
    }
    stage
        .until("a contact", async || {
            stage.tried("a contact", of.directory.set_contact(&who, &other, true, 1)).await.is_some()
        })
        .await;
    stage.until("the generation is there", async || add_generation(stage, 2).await.is_some()).await;
    let wanted = Kept { derived: 9, archived: 9, device: 9, read: 9, contact: true, generation: 2 };
    stage
        .until("all is as it was said", async || match kept(stage, name).await {
            Some(kept) => {
                assert_eq!(kept, wanted);
                true
            }
            None => false,
        })
        .await;
}
