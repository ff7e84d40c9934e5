//! Settings of a topic that is there: those with which records would be lost, or could not be judged. (DELIVERY 22, 24)

use heddle_model::{Millis, Topic};

use super::config::KafkaConfig;

/// A setting with which a topic cannot serve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What it has, and why that will not do.
    pub(crate) has: String,
    key: &'static str,
    /// What it should be.
    value: String,
    /// What else would do.
    or: &'static str,
}

impl Wrong {
    /// The command that mends it.
    pub(crate) fn remedy(&self, config: &KafkaConfig, topic: &str) -> String {
        format!(
            "mend it with `kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config {}={}`{}",
            config.brokers, self.key, self.value, self.or
        )
    }
}

/// The first that must change; `value` gives a setting, nothing for one that these brokers do not know.
pub(crate) fn first_wrong(config: &KafkaConfig, topic: Topic, value: impl Fn(&str) -> String) -> Option<Wrong> {
    let wrong = |key, should: &str, why: &str, or| {
        Some(Wrong { has: format!("has {key}={}{why}", value(key)), key, value: should.to_owned(), or })
    };
    if value("message.timestamp.type") != "LogAppendTime" {
        return wrong("message.timestamp.type", "LogAppendTime", ", and the brokers' clock must decide", "");
    }
    if value("cleanup.policy").split(',').any(|policy| policy.trim() == "compact") {
        let why = ", which removes all records of a key but the newest";
        return wrong("cleanup.policy", "delete", why, "");
    }
    if !config.lenient && value("unclean.leader.election.enable") == "true" {
        let why = ", with which a broker that lacks records may come to lead";
        let or = ", or set kafka.lenient = true to lose records with a broker";
        return wrong("unclean.leader.election.enable", "false", why, or);
    }
    let longest = config.message_bytes_max();
    if value("max.message.bytes").parse::<usize>().is_ok_and(|bytes| bytes < longest) {
        return wrong("max.message.bytes", &longest.to_string(), ", and a record may be longer", "");
    }
    if value("retention.bytes").parse::<i64>().is_ok_and(|bytes| bytes >= 0) {
        let why = ", which removes records whatever their age, before anybody notices that they wait";
        return wrong("retention.bytes", "-1", why, "");
    }
    if topic == Topic::Control && retention(value("retention.ms")).is_some() {
        return wrong("retention.ms", "-1", ", and forgets which policies decide and which log this is", "");
    }
    None
}

/// What a topic lacks with which a broker could take records along: so many copies, and `min.insync.replicas`. Redpanda does not have that setting: there
/// a majority of the copies has a record before it counts.
pub(crate) fn too_few(copies: usize, in_sync: &str) -> Option<String> {
    let in_sync = in_sync.parse::<u32>().ok();
    if copies >= 3 && in_sync.is_none_or(|in_sync| in_sync >= 2) {
        return None;
    }
    let in_sync = in_sync.map(|in_sync| format!(" and min.insync.replicas={in_sync}")).unwrap_or_default();
    Some(format!("has {copies} copies{in_sync}, at least 3 and 2 survive a broker"))
}

/// A `retention.ms`; none: for ever.
pub(crate) fn retention(value: String) -> Option<Millis> {
    value.parse().ok()
}

/// The shorter of two, of which none is for ever.
pub(crate) fn shorter(a: Option<Millis>, b: Option<Millis>) -> Option<Millis> {
    [a, b].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 6] = [
        ("message.timestamp.type", "LogAppendTime"),
        ("cleanup.policy", "delete"),
        ("unclean.leader.election.enable", "false"),
        ("max.message.bytes", "1052672"),
        ("retention.bytes", "-1"),
        ("retention.ms", "-1"),
    ];

    fn found(topic: Topic, lenient: bool, with: (&str, &str)) -> Option<String> {
        let config = KafkaConfig { lenient, ..KafkaConfig::new("kafka-1:9092", "test") };
        let value = |key: &str| {
            let good = || GOOD.iter().find(|(good, _)| *good == key).map_or("", |(_, value)| *value);
            if with.0 == key { with.1.to_owned() } else { good().to_owned() }
        };
        let wrong = first_wrong(&config, topic, value)?;
        Some(format!("{}; {}", wrong.has, wrong.remedy(&config, "t")))
    }

    #[test]
    fn each_setting_that_loses_records_is_named_with_what_mends_it() {
        for (with, mends) in [
            (("message.timestamp.type", "CreateTime"), "message.timestamp.type=LogAppendTime`"),
            (("cleanup.policy", "compact,delete"), "cleanup.policy=delete`"),
            (("unclean.leader.election.enable", "true"), "unclean.leader.election.enable=false`, or set kafka.lenient"),
            (("max.message.bytes", "1048588"), "max.message.bytes=1052672`"),
            (("retention.bytes", "1"), "retention.bytes=-1`"),
        ] {
            let said = found(Topic::Messages, false, with).unwrap();
            assert!(said.starts_with(&format!("has {}={}, ", with.0, with.1)), "{said}");
            assert!(said.contains(&format!("--entity-name t --add-config {mends}")), "{said}");
        }
        assert_eq!(found(Topic::Messages, false, ("retention.ms", "5")), None);
        assert!(found(Topic::Control, true, ("retention.ms", "5")).is_some());
    }

    #[test]
    fn one_broker_may_elect_as_it_likes_and_what_brokers_do_not_know_is_not_missed() {
        assert_eq!(found(Topic::Messages, true, ("unclean.leader.election.enable", "true")), None);
        assert_eq!(found(Topic::Messages, false, ("unclean.leader.election.enable", "")), None);
        assert_eq!(found(Topic::Messages, false, ("retention.bytes", "")), None);
    }

    #[test]
    fn the_shortest_time_counts_and_for_ever_is_none() {
        assert_eq!(shorter(retention("-1".to_owned()), retention("7".to_owned())), Some(7));
        assert_eq!(shorter(Some(5), Some(7)), Some(5));
        assert_eq!(shorter(None, retention("-1".to_owned())), None);
    }

    #[test]
    fn three_copies_of_which_two_are_in_sync_are_enough_and_so_is_a_majority_where_brokers_know_no_such_setting() {
        assert_eq!(too_few(3, "2"), None);
        assert_eq!(too_few(3, ""), None);
        assert_eq!(
            too_few(3, "1").as_deref(),
            Some("has 3 copies and min.insync.replicas=1, at least 3 and 2 survive a broker")
        );
        assert_eq!(too_few(1, "").as_deref(), Some("has 1 copies, at least 3 and 2 survive a broker"));
    }
}
