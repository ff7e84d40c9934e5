use proptest::prelude::*;

use super::*;

const SLOTS: Slots = Slots { partitions: 2 };
const SEED: u32 = 0x5eed;

/// What goes into a frame: per record its slot, id and bytes; where each slot starts; cursors.
#[derive(Debug, Clone)]
struct Commit {
    records: Vec<(usize, Option<[u8; 16]>, Vec<u8>)>,
    first: Vec<Offset>,
    cursors: Vec<(usize, Offset)>,
    sequence: u64,
    appended_at: Millis,
}

fn commits() -> impl Strategy<Value = Commit> {
    let slots = SLOTS.count();
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let record = (0..slots, proptest::option::of(any::<[u8; 16]>()), bytes);
    let records = proptest::collection::vec(record, 0..20);
    let first = proptest::collection::vec(0..u64::MAX / 2, slots);
    let cursors = proptest::collection::btree_map(0..slots, any::<u64>(), 0..=slots);
    (records, first, cursors, any::<u64>(), any::<u64>()).prop_map(
        |(records, first, cursors, sequence, appended_at)| Commit {
            records,
            first,
            cursors: cursors.into_iter().collect(),
            sequence,
            appended_at,
        },
    )
}

fn encode(commit: &Commit) -> Vec<u8> {
    let mut builder = FrameBuilder::new(SLOTS);
    let mut next = commit.first.clone();
    for (slot, id, bytes) in &commit.records {
        builder.push(*slot, next[*slot], id.map(MessageId).as_ref(), bytes);
        next[*slot] += 1;
    }
    for (slot, upto) in &commit.cursors {
        builder.cursor(*slot, *upto);
    }
    let mut out = Vec::new();
    builder.encode(commit.sequence, commit.appended_at, SEED, &mut out);
    out
}

/// Header, directory and records, all checked.
fn decode(frame: &[u8], seed: u32) -> Result<(Head, Vec<Vec<Entry>>), Broken> {
    let head = Head::parse(frame, seed, SLOTS)?;
    head.check(frame, seed)?;
    let records = head.sections.iter().map(|section| {
        let records = Bytes::copy_from_slice(&frame[section.start..section.start + section.bytes]);
        Entries(records).collect::<Result<Vec<_>, _>>()
    });
    let records = records.collect::<Result<_, _>>()?;
    Ok((head, records))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_frame_reads_back_as_it_was_written(commit in commits()) {
        let frame = encode(&commit);
        prop_assert_eq!(frame.len() % PAGE_BYTES, 0);
        let (head, sections) = decode(&frame, SEED).unwrap();
        prop_assert_eq!((head.sequence, head.appended_at), (commit.sequence, commit.appended_at));
        prop_assert_eq!(pages(head.frame_bytes), frame.len());
        let cursors: Vec<_> = commit.cursors.iter().map(|(slot, upto)| (SLOTS.at(*slot), *upto)).collect();
        prop_assert_eq!(&head.cursors, &cursors);
        let mut seen = 0;
        for (section, entries) in head.sections.iter().zip(sections) {
            let slot = SLOTS.index(section.at).unwrap();
            prop_assert_eq!(section.first, commit.first[slot]);
            prop_assert_eq!(section.count as usize, entries.len());
            let expected = commit.records.iter().filter(|(of, ..)| *of == slot);
            let expected: Vec<_> = expected
                .map(|(_, id, bytes)| Entry { id: id.map(MessageId), bytes: Bytes::copy_from_slice(bytes) })
                .collect();
            seen += entries.len();
            prop_assert_eq!(entries, expected);
        }
        prop_assert_eq!(seen, commit.records.len());
    }

    #[test]
    fn a_frame_of_another_segment_or_log_is_none(commit in commits(), other in any::<u32>()) {
        prop_assume!(other != SEED);
        prop_assert_eq!(decode(&encode(&commit), other).unwrap_err(), Broken::HeadChecksum);
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(&bytes, SEED).is_err());
        let mut with_magic = MAGIC.to_vec();
        with_magic.extend(&bytes);
        prop_assert!(decode(&with_magic, SEED).is_err());
        let entries = Entries(Bytes::from(bytes.clone())).count();
        prop_assert!(entries <= bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    /// Each byte of the frame in turn, the changed bit drawn.
    #[test]
    fn every_byte_that_flips_is_noticed(commit in commits(), bit in 0..8u32) {
        let mut frame = encode(&commit);
        let frame_bytes = Head::parse(&frame, SEED, SLOTS).unwrap().frame_bytes;
        for at in 0..frame_bytes {
            frame[at] ^= 1 << bit;
            prop_assert!(decode(&frame, SEED).is_err(), "bit {} of byte {} of {}", bit, at, frame_bytes);
            frame[at] ^= 1 << bit;
        }
        prop_assert!(decode(&frame, SEED).is_ok());
    }
}
