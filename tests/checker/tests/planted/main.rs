//! Each kind of anomaly, planted into a small good history, is found, and nothing else is; in the good one nothing.

mod good;

use std::process::Command;

use good::{CUT, Lines, archived, connect, direct, event, good, message, of_group, receipt, record, without_a_log};
use heddle_checker::{History, Kind, check};
use serde_json::{Value, json};

fn text(lines: &Lines) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Kinds that the checker finds, each once.
fn kinds(lines: &Lines) -> Vec<Kind> {
    let history = History::read(text(lines).as_bytes()).unwrap();
    let mut kinds: Vec<Kind> = check(&history).into_iter().map(|anomaly| anomaly.kind).collect();
    kinds.dedup();
    kinds
}

/// Plants into the good history, and expects exactly that kind.
#[track_caller]
fn finds(kind: Kind, plant: impl Fn(&mut Lines)) {
    let mut lines = good();
    plant(&mut lines);
    assert_eq!(kinds(&lines), [kind]);
}

/// Where the first line is of which that holds.
#[track_caller]
fn at(lines: &Lines, is: impl Fn(&Value) -> bool) -> usize {
    lines.iter().position(is).unwrap()
}

fn is_event(line: &Value, user: &str, id: &str) -> bool {
    line["what"] == "event" && line["user"] == user && line["frame"]["message_id"] == id
}

/// The event of that user and message.
#[track_caller]
fn came<'a>(lines: &'a mut Lines, user: &str, id: &str) -> &'a mut Value {
    let at = at(lines, |line| is_event(line, user, id));
    &mut lines[at]
}

#[track_caller]
fn record_of<'a>(lines: &'a mut Lines, kind: &str, id: &str) -> &'a mut Value {
    let at = at(lines, |line| line["kind"] == kind && line["message_id"] == id);
    &mut lines[at]
}

fn outcome<'a>(lines: &'a mut Lines, id: &str) -> &'a mut Value {
    let at = at(lines, |line| line["what"] == "outcome" && line["client_id"] == id);
    &mut lines[at]
}

/// Adds a record at the end of `messages/0`, and its row in the archive.
fn append(lines: &mut Lines, offset: u64, more: Value) {
    let mut made = more;
    made.as_object_mut().unwrap().extend(record(offset, json!({})).as_object().unwrap().clone());
    lines.insert(3, archived(&made));
    lines.insert(3, made);
}

/// An event behind all of that user's.
fn comes(lines: &mut Lines, user: &str, frame: Value) {
    let last = lines.iter().rposition(|line| line["what"] == "event" && line["user"] == user).unwrap();
    lines.insert(last + 1, event(user, frame));
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(kinds(&good()), []);
    assert_eq!(kinds(&without_a_log()), []);
}

#[test]
fn an_accepted_message_that_is_in_no_stream_or_not_in_the_log_is_lost() {
    finds(Kind::Lost, |lines| {
        record_of(lines, "group_chunk", "m6")["members"].as_array_mut().unwrap().pop();
        lines.retain(|line| !is_event(line, "c", "m6"));
    });
    finds(Kind::Lost, |lines| {
        let answer = outcome(lines, "m7");
        (answer["code"], answer["message_id"], answer["order"]) = ("accepted".into(), "m7".into(), 99.into());
    });
    // Who never connected is lost as much.
    finds(Kind::Lost, |lines| {
        record_of(lines, "group_chunk", "m5")["members"].as_array_mut().unwrap().pop();
        lines.retain(|line| line["user"] != "d" || line["what"] == "record");
    });
    let mut lines = without_a_log();
    lines.retain(|line| !is_event(line, "c", "m6"));
    assert_eq!(kinds(&lines), [Kind::Lost]);
}

#[test]
fn what_had_not_come_when_a_run_was_given_up_is_late_and_not_lost() {
    finds(Kind::Late, |lines| {
        lines.retain(|line| line["user"] != "c" || line["frame"]["offset"].as_u64().is_none_or(|offset| offset < 12));
        lines.last_mut().unwrap()["settled"] = false.into();
    });
}

#[test]
fn a_message_under_two_offsets_is_doubled() {
    finds(Kind::Doubled, |lines| {
        let mut copy = record_of(lines, "own_copy", "m9").clone();
        copy["source"]["chunk"] = 1.into();
        append(lines, 18, copy);
        comes(lines, "a", direct(CUT + 19, "m9", "c", CUT + 1));
    });
}

#[test]
fn an_event_that_comes_again_on_one_connection_is_sent_again() {
    finds(Kind::SentAgain, |lines| {
        let again = came(lines, "b", "m4").clone();
        let behind = at(lines, |line| is_event(line, "b", "m4")) + 1;
        lines.insert(behind, again);
    });
}

#[test]
fn messages_of_one_sender_the_other_way_round_are_reordered() {
    finds(Kind::Reordered, |lines| {
        let first = at(lines, |line| line["what"] == "send" && line["client_id"] == "m1");
        let second = at(lines, |line| line["what"] == "send" && line["client_id"] == "m2");
        let later = lines.remove(second);
        lines.insert(first, later);
    });
}

#[test]
fn members_with_different_orders_disagree() {
    let mut lines = without_a_log();
    let (third, fourth) = (came(&mut lines, "c", "m3").clone(), came(&mut lines, "c", "m4").clone());
    let (at_third, at_fourth) =
        (at(&lines, |line| is_event(line, "c", "m3")), at(&lines, |line| is_event(line, "c", "m4")));
    (lines[at_third], lines[at_fourth]) = (fourth, third);
    (lines[at_third]["frame"]["offset"], lines[at_fourth]["frame"]["offset"]) = (6.into(), 7.into());
    assert_eq!(kinds(&lines), [Kind::Disagreed]);
}

#[test]
fn who_reads_what_is_not_theirs_is_found() {
    finds(Kind::Leaked, |lines| comes(lines, "d", direct(13, "m1", "b", 2)));
    // Of a time when it was no member, before and after.
    finds(Kind::Leaked, |lines| comes(lines, "d", of_group(12, "m6", "a", 7)));
    finds(Kind::Leaked, |lines| {
        let first = at(lines, |line| line["what"] == "event" && line["user"] == "d");
        lines.insert(first, event("d", of_group(7, "m4", "b", 3)));
    });
    let mut lines = without_a_log();
    comes(&mut lines, "b", direct(CUT + 1, "m9", "c", CUT + 1));
    assert_eq!(kinds(&lines), [Kind::Leaked]);
}

#[test]
fn an_event_that_the_log_does_not_have_is_unfounded() {
    finds(Kind::Unfounded, |lines| comes(lines, "b", direct(13, "mx", "b", 13)));
}

#[test]
fn an_order_that_changes_is_found_in_events_and_in_answers() {
    finds(Kind::Renumbered, |lines| came(lines, "c", "m4")["frame"]["order"] = 4.into());
    finds(Kind::Renumbered, |lines| outcome(lines, "m1")["order"] = 99.into());
    // What was sent again may have been answered for another record than the one that stands.
    let mut lines = good();
    let again = lines[at(&lines, |line| line["what"] == "send" && line["client_id"] == "m1")].clone();
    lines.insert(3, again);
    outcome(&mut lines, "m1")["order"] = 99.into();
    assert_eq!(kinds(&lines), []);
}

#[test]
fn an_offset_that_is_two_events_has_moved() {
    finds(Kind::Moved, |lines| {
        for mut line in [connect("c", Some(5), 5), event("c", of_group(6, "m4", "b", 3))] {
            line["device"] = "tablet".into();
            let end = lines.len() - 1;
            lines.insert(end, line);
        }
    });
}

#[test]
fn a_hole_of_which_nobody_spoke_is_passed_over() {
    finds(Kind::PassedOver, |lines| lines.retain(|line| !is_event(line, "c", "m4")));
    // The end of what was missed vouches for it too.
    finds(Kind::PassedOver, |lines| lines.retain(|line| !is_event(line, "c", "m9")));
    finds(Kind::PassedOver, |lines| {
        lines.retain(|line| {
            line["user"] != "a" || line["frame"]["type"] != "receipt" || line["frame"]["status"] != "read"
        });
    });
}

#[test]
fn a_gap_that_is_said_without_reason_is_found() {
    for reason in ["lost", "above_head"] {
        finds(Kind::GapOfNothing, |lines| {
            let again = at(lines, |line| line["what"] == "connect" && line["resume"] == 5);
            lines[again]["gap"] = reason.into();
        });
    }
    // A position that nobody ever gave is above the head.
    let mut lines = good();
    let again = at(&lines, |line| line["what"] == "connect" && line["resume"] == 5);
    (lines[again]["gap"], lines[again]["resume"]) = ("above_head".into(), (CUT * 9).into());
    assert_eq!(kinds(&lines), []);
}

#[test]
fn a_device_that_is_put_elsewhere_is_found() {
    finds(Kind::ResumedElsewhere, |lines| {
        let again = at(lines, |line| line["what"] == "connect" && line["resume"] == 5);
        lines[again]["offset"] = 4.into();
    });
}

#[test]
fn what_was_rejected_and_came_is_found() {
    finds(Kind::RejectedDelivered, |lines| {
        append(lines, 18, message("direct", "m7", "a", "user:b", json!({})));
        comes(lines, "b", direct(CUT + 19, "m7", "b", CUT + 19));
    });
    // It stands, and nobody has it yet.
    finds(Kind::RejectedDelivered, |lines| {
        append(lines, 18, message("direct", "m7", "a", "user:nobody", json!({})));
        outcome(lines, "m7")["code"] = "too_large".into();
        let sent = at(lines, |line| line["what"] == "send" && line["client_id"] == "m7");
        lines[sent]["conversation"] = "user:nobody".into();
    });
    // Told through the stream, after it was accepted.
    finds(Kind::RejectedDelivered, |lines| {
        append(lines, 18, json!({"kind": "rejection", "to": "a", "client_id": "m1", "order": 2}));
        comes(lines, "a", json!({"type": "rejected", "offset": CUT + 19, "order": 2}));
        lines.retain(|line| line["what"] != "told");
    });
}

#[test]
fn a_message_without_a_generation_or_with_two_is_found() {
    finds(Kind::Undecided, |lines| {
        for kind in ["group", "group_chunk"] {
            record_of(lines, kind, "m5")["stamp"]["generation"] = 0.into();
        }
    });
    finds(Kind::Undecided, |lines| record_of(lines, "own_copy", "m1")["stamp"] = Value::Null);
    finds(Kind::DecidedTwice, |lines| record_of(lines, "group_chunk", "m5")["stamp"]["generation"] = 4.into());
    finds(Kind::DecidedTwice, |lines| outcome(lines, "m5")["generation"] = 4.into());
}

#[test]
fn an_archive_that_is_not_the_log_is_found() {
    let row = |lines: &Lines| at(lines, |line| line["what"] == "archived" && line["position"] == 10);
    finds(Kind::NotArchived, |lines| drop(lines.remove(row(lines))));
    finds(Kind::ArchivedOtherwise, |lines| {
        let row = row(lines);
        lines[row]["sha256"] = "of other bytes".into();
    });
    finds(Kind::ArchivedTooMuch, |lines| {
        // The chunk that was made twice.
        lines.insert(3, json!({"what": "archived", "partition": 0, "position": 8, "sha256": "no messages0-7"}));
    });
    finds(Kind::ArchivedTooMuch, |lines| {
        let again = lines[row(lines)].clone();
        lines.insert(3, again);
    });
}

#[test]
fn receipts_of_the_archive_are_the_newest_and_nothing_is_read_that_was_not_delivered() {
    let set = |lines: &mut Lines, delivered: u64, read: u64| {
        let row = at(lines, |line| line["what"] == "archived_receipt");
        (lines[row]["delivered"], lines[row]["read"]) = (delivered.into(), read.into());
    };
    finds(Kind::ReceiptNotTheNewest, |lines| set(lines, 2, 2));
    finds(Kind::ReceiptNotTheNewest, |lines| set(lines, 9, 4));
    finds(Kind::ReceiptNotTheNewest, |lines| lines.retain(|line| line["what"] != "archived_receipt"));
    finds(Kind::ReadAboveDelivered, |lines| set(lines, 2, 4));
}

#[test]
fn receipts_that_go_back_or_are_of_nothing_are_found() {
    let told = |conversation: &str, by: &str, order: u64| {
        json!({
            "type": "receipt", "offset": CUT + 19, "conversation": conversation, "by": by, "status": "delivered", "order": order,
        })
    };
    let back = |lines: &mut Lines| {
        append(lines, 18, receipt("user:b", "b", "delivered", 2));
        comes(lines, "a", told("user:b", "b", 2));
    };
    // Who came back may have said it anew.
    let mut lines = good();
    back(&mut lines);
    assert_eq!(kinds(&lines), []);
    finds(Kind::ReceiptWentBack, |lines| {
        lines.retain(|line| line["what"] != "connect" || line["resume"] != 5);
        back(lines);
    });
    finds(Kind::ReceiptOfNothing, |lines| {
        append(lines, 18, receipt("group:g", "c", "delivered", 6));
        comes(lines, "a", told("group:g", "c", 6));
        lines.insert(3, json!({
            "what": "archived_receipt", "sender": "a", "conversation": "group:g", "reader": "c", "delivered": 6, "read": 0,
        }));
    });
}

#[test]
fn a_history_that_a_node_tells_wrongly_is_found() {
    let page = |lines: &mut Lines, conversation: &str, ids: &[&str]| {
        let at = at(lines, |line| line["what"] == "told" && line["conversation"] == conversation);
        lines[at]["message_ids"] = json!(ids);
    };
    finds(Kind::ToldOtherwise, |lines| page(lines, "group:g", &["m3", "m4", "m5"]));
    finds(Kind::ToldOtherwise, |lines| page(lines, "group:g", &["m4", "m3", "m5", "m6"]));
    finds(Kind::ToldOtherwise, |lines| page(lines, "user:a", &["m6"]));
}

#[test]
fn the_program_says_what_it_found_and_refuses_a_history_that_is_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let run = |lines: &Lines| {
        let path = folder.path().join("history.jsonl");
        std::fs::write(&path, text(lines)).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_heddle-checker")).arg(path).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(run(&good()), (Some(0), String::new(), String::new()));
    let mut lines = good();
    lines.retain(|line| !is_event(line, "c", "m4"));
    let (code, said, _) = run(&lines);
    assert_eq!(code, Some(1));
    assert_eq!(said, "anomaly: passed-over: c/phone went from 6 to 9 over 7, a group_chunk m4, and no gap was said\n");
    lines.pop();
    let (code, said, error) = run(&lines);
    assert_eq!((code, said.as_str()), (Some(65), ""));
    assert!(error.contains("the history is cut short: its last line is not `end`"), "{error}");
    lines.push(json!({"what": "nonsense"}));
    let (code, _, error) = run(&lines);
    assert!(code == Some(65) && error.contains("is no line of a history"), "{error}");
}
