//! What each hook adds to a new plugin.

use heddle_pack::Hook;

/// The parts of one hook.
pub struct Parts {
    /// For `export!`.
    pub export: &'static str,
    /// Its lines in plugin.toml.
    pub manifest: &'static str,
    /// Key, value in plugin.toml, value in cases and unit tests, meaning; the field's type.
    pub keys: &'static [Key],
    /// Constants of lib.rs.
    pub consts: &'static str,
    /// The trait's implementation.
    pub decide: &'static str,
    /// What that needs of the SDK.
    pub uses: &'static [&'static str],
    /// Unit tests.
    pub tests: &'static str,
    /// What those need of the SDK.
    pub test_uses: &'static [&'static str],
    /// File names and texts.
    pub cases: &'static [(&'static str, &'static str)],
}

/// One key of `[config]`.
pub struct Key {
    pub name: &'static str,
    pub ty: &'static str,
    pub value: &'static str,
    /// In cases and unit tests.
    pub tested: &'static str,
    pub doc: &'static str,
}

macro_rules! text {
    ($path:literal) => {
        include_str!(concat!("../../../templates/plugin/", $path))
    };
}

const RATE_LIMIT: Parts = Parts {
    export: "rate_limit",
    manifest: "[hooks.rate-limit]\nscopes = [\"user\"]\n\
               # Who counts together: each \"node\" for itself, or all nodes of a \"cluster\", over Redis.\n\
               share = \"node\"\non_failure = \"builtin\"\n",
    keys: &[Key {
        name: "per_minute",
        ty: "u32",
        value: "60",
        tested: "2",
        doc: "Messages that one user may send in a minute.",
    }],
    consts: "const MINUTE_MS: u64 = 60_000;\n",
    decide: text!("rate-limit/decide.rs"),
    uses: &["Command", "Moment", "Outcome", "RateLimit", "Request", "Verdict"],
    tests: text!("rate-limit/tests.rs"),
    test_uses: &["Command", "Moment", "Outcome", "RateLimit", "Request", "Scope", "Verdict"],
    cases: &[("a-minute-has-so-many-messages", text!("rate-limit/cases/a-minute-has-so-many-messages.json"))],
};

const ROUTING: Parts = Parts {
    export: "routing",
    manifest: "[hooks.routing]\non_failure = \"builtin\"\n",
    keys: &[
        Key { name: "quiet_from", ty: "u64", value: "22", tested: "22", doc: "Groups are quiet from this hour, UTC." },
        Key {
            name: "quiet_until",
            ty: "u64",
            value: "7",
            tested: "7",
            doc: "Until this hour; the same hour: they never are.",
        },
    ],
    consts: "const HOUR_MS: u64 = 3_600_000;\n",
    decide: text!("routing/decide.rs"),
    uses: &["Conversation", "Decision", "Envelope", "Message", "Moment", "Refusal", "Routing"],
    tests: text!("routing/tests.rs"),
    test_uses: &["Conversation", "Decision", "Envelope", "FakeMessage", "Moment", "Routing"],
    cases: &[("groups-are-quiet-at-night", text!("routing/cases/groups-are-quiet-at-night.json"))],
};

const FANOUT: Parts = Parts {
    export: "fanout",
    manifest: "[hooks.fanout]\non_failure = \"builtin\"\n",
    keys: &[
        Key {
            name: "push_up_to",
            ty: "u32",
            value: "1000",
            tested: "1000",
            doc: "Members up to which a message is pushed to each.",
        },
        Key {
            name: "loud_up_to",
            ty: "u32",
            value: "50",
            tested: "50",
            doc: "Members up to which everybody is notified.",
        },
    ],
    consts: "",
    decide: text!("fanout/decide.rs"),
    uses: &["Audience", "Delivery", "Fact", "Fanout", "Message", "Mode", "Moment"],
    tests: text!("fanout/tests.rs"),
    test_uses: &["Audience", "Delivery", "Fact", "FakeMessage", "Fanout", "Mode", "Moment"],
    cases: &[
        ("push-up-to-a-size", text!("fanout/cases/push-up-to-a-size.json")),
        ("quiet-unless-mentioned", text!("fanout/cases/quiet-unless-mentioned.json")),
    ],
};

const PRESENCE: Parts = Parts {
    export: "presence",
    manifest: "[hooks.presence]\non_failure = \"builtin\"\n",
    keys: &[Key {
        name: "away_after_ms",
        ty: "u64",
        value: "300000",
        tested: "300000",
        doc: "Away after this long without a frame, in milliseconds.",
    }],
    consts: "",
    decide: text!("presence/decide.rs"),
    uses: &["Event", "Moment", "Observation", "Presence", "Relation", "Sighting", "Status", "Visibility"],
    tests: text!("presence/tests.rs"),
    test_uses: &["Event", "Moment", "Observation", "Presence", "Relation", "Status", "Visibility"],
    cases: &[("a-day", text!("presence/cases/a-day.json")), ("who-may-see", text!("presence/cases/who-may-see.json"))],
};

/// Those of a hook.
pub const fn of(hook: Hook) -> &'static Parts {
    match hook {
        Hook::RateLimit => &RATE_LIMIT,
        Hook::Routing => &ROUTING,
        Hook::Fanout => &FANOUT,
        Hook::Presence => &PRESENCE,
    }
}
