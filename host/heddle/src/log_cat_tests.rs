use std::sync::Arc;

use bytes::Bytes;
use heddle_log::{EmbeddedLog, Log as _, LogConfig};
use heddle_model::{BodyHash, ClientId, Conversation, Hook, MessageId, Plan, SystemClock, UserId};

use super::*;

fn sent(text: &str) -> Message {
    let (sender, client_id) = (UserId::new("alice").unwrap(), ClientId::new("c-1").unwrap());
    let to = Conversation::Direct(UserId::new("bob").unwrap());
    let decision = Decision {
        hook: Hook::Routing,
        plugin: "inbox-routing".into(),
        version: "0.1.0".into(),
        digest: Digest::of(b"file"),
        micros: 2,
        verdict: "accept".into(),
        fallback: None,
    };
    Message {
        id: MessageId::of(&sender, &to, &client_id),
        sender,
        client_id,
        addressed: to.clone(),
        to,
        text: Some(text.into()),
        data: Some(Bytes::from_static(b"{\"n\":1.50}")),
        tags: Vec::new(),
        mentions: Vec::new(),
        sent_at: 1_700_000_000_000,
        lamport: 5,
        body: BodyHash::of(Some(text), None),
        rewritten: false,
        only: None,
        discarded: false,
        quiet: false,
        outsider: false,
        plan: Plan::Push,
        stamp: Stamp { generation: 9, decisions: vec![decision] },
    }
}

async fn log_with(texts: &[&str]) -> (tempfile::TempDir, Arc<EmbeddedLog>) {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { partitions: 2, segment_bytes: 1 << 20, ..LogConfig::new(dir.path().join(LOG_DIR)) };
    let log = EmbeddedLog::open(config, Arc::new(SystemClock::new())).unwrap();
    for text in texts {
        let record = Record::Direct(Arc::new(sent(text))).encode();
        log.append(TopicPartition::messages(1), None, record).await.unwrap();
    }
    (dir, log)
}

fn lines(dir: &tempfile::TempDir, change: impl FnOnce(&mut LogCatArgs)) -> Result<Vec<Value>, Failure> {
    let mut args =
        LogCatArgs { topic: "messages".into(), partition: None, from: 0, data: dir.path().into(), config: None };
    change(&mut args);
    let mut out = Vec::new();
    cat(&args, &mut out)?;
    Ok(String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn records_are_shown_with_their_stamps_while_a_server_has_the_log_open() {
    let (dir, _open) = log_with(&["one", "two"]).await;
    let shown = lines(&dir, |_| {}).unwrap();
    assert_eq!(shown.len(), 2);
    assert_eq!((&shown[1]["offset"], &shown[1]["partition"], &shown[1]["text"]), (&1.into(), &1.into(), &"two".into()));
    assert_eq!(shown[0]["stamp"]["generation"], 9);
    assert_eq!(shown[0]["stamp"]["decisions"][0]["digest"], Digest::of(b"file").to_string());
    assert_eq!(shown[0]["data"]["n"], 1.5);
    assert_eq!(shown[0]["sha256"], Digest::of(&Record::Direct(Arc::new(sent("one"))).encode()).to_string());
    assert_eq!(shown[0]["message_id"], sent("one").id.to_string());
}

#[tokio::test]
async fn one_partition_from_an_offset_on_is_shown_alone() {
    let (dir, _open) = log_with(&["one", "two", "three"]).await;
    let shown = lines(&dir, |args| (args.partition, args.from) = (Some(1), 1)).unwrap();
    assert_eq!(shown.iter().map(|line| line["text"].as_str().unwrap()).collect::<Vec<_>>(), ["two", "three"]);
    assert!(lines(&dir, |args| args.partition = Some(0)).unwrap().is_empty());
    assert_eq!(lines(&dir, |args| args.partition = Some(2)).unwrap_err().code, crate::failure::USAGE);
}

#[test]
fn a_directory_without_a_log_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let failure = lines(&dir, |_| {}).unwrap_err();
    assert_eq!(failure.code, crate::failure::MISSING);
    assert!(failure.text.contains("--data"), "{failure}");
}
