//! Presence of several nodes over a bus that loses, doubles and turns around what it carries, by clocks that stand still until they are moved.

use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{Clock, ConnectionId, ManualClock, Millis, NodeId, UserId};
use heddle_presence::{
    Event, Mark, Observation, Presence, PresenceConfig, PresencePolicy, PresenceSink, Relations, Report, ReportKind,
    Said, Sighting, Socket, Status, Tidings, Told, Update, Visibility, Visible, relation,
};
use parking_lot::Mutex;
use proptest::prelude::*;

const START: Millis = 1_700_000_000_000;
const LEASE: Millis = 15_000;
const TICK: Millis = 200;
const GRACE: Millis = 10_000;

/// The rules of the first-party policy, in short.
#[derive(Default)]
struct Rules {
    asked: Mutex<Vec<(String, Event, u32)>>,
}

impl PresencePolicy for Rules {
    fn observe(&self, asked: &Observation<'_>) -> Sighting {
        self.asked.lock().push((asked.user.to_string(), asked.event, asked.connections));
        let idle_ms = if asked.event == Event::Connected { 0 } else { asked.idle_ms };
        let (status, recheck_ms) = match asked {
            _ if asked.connections == 0 && asked.event == Event::Disconnected && asked.previous != Status::Offline => {
                (asked.previous, GRACE)
            }
            _ if asked.connections == 0 => (Status::Offline, 0),
            _ if matches!(asked.declared, Some(Status::Away | Status::Offline)) => {
                (asked.declared.unwrap_or(Status::Online), 0)
            }
            _ if idle_ms >= 300_000 => (Status::Away, 0),
            _ => (Status::Online, 300_000 - idle_ms),
        };
        Sighting { status, announce: status != asked.previous, recheck_ms }
    }

    fn reveal(&self, _now: Millis, _subject: &UserId, relations: &[u8]) -> Vec<Visibility> {
        let one = |bits: &u8| {
            if bits & relation::CONTACT != 0 { Visibility::StatusAndLastSeen } else { Visibility::Nothing }
        };
        relations.iter().map(one).collect()
    }
}

/// Everybody but a stranger is a contact; the archive knows one moment.
#[derive(Default)]
struct Archive(Mutex<Option<Millis>>);

#[async_trait]
impl Relations for Archive {
    async fn relations(&self, _subject: &UserId, viewers: &[UserId]) -> Option<Vec<u8>> {
        let bits = |viewer: &UserId| if viewer.as_str() == "stranger" { 0 } else { relation::CONTACT };
        Some(viewers.iter().map(bits).collect())
    }

    async fn last_seen(&self, _user: &UserId) -> Option<Millis> {
        *self.0.lock()
    }
}

#[derive(Default)]
struct Updates(Mutex<Vec<Update>>);

impl PresenceSink for Updates {
    fn update(&self, update: Update) {
        self.0.lock().push(update);
    }
}

struct Node {
    name: NodeId,
    presence: Presence,
    clock: Arc<ManualClock>,
    rules: Arc<Rules>,
    archive: Arc<Archive>,
    updates: Arc<Updates>,
}

/// One device and one address for each connection.
fn mark(connection: u64) -> Mark {
    Mark { device: connection.to_be_bytes(), address: (connection % 10).to_be_bytes() }
}

impl Node {
    /// `life` is its time of birth, too.
    fn born(name: &str, life: u64, config: PresenceConfig) -> Self {
        let name = NodeId::new(name).unwrap();
        let clock = Arc::new(ManualClock::at(START + life));
        let (rules, archive, updates) = (Arc::new(Rules::default()), Arc::default(), Arc::new(Updates::default()));
        let (relations, sink): (Arc<Archive>, _) = (archive, updates.clone());
        let presence = Presence::still(config, rules.clone(), relations.clone(), sink, clock.clone());
        presence.join(name.clone(), life);
        Self { name, presence, clock, rules, archive: relations, updates }
    }

    fn new(name: &str) -> Self {
        Self::born(name, 1, PresenceConfig::default())
    }

    fn report(&self, name: &str, connection: u64, kind: ReportKind) {
        let socket = Socket { node: self.name.clone(), connection: ConnectionId(connection) };
        self.presence.report(&user(name), &Report { socket, mark: mark(connection), kind });
    }

    async fn watch(&self, name: &str) {
        let socket = Socket { node: self.name.clone(), connection: ConnectionId(1_000_000) };
        self.presence.subscribe(&user("friend"), &socket, &[user(name)]).await.unwrap();
    }

    async fn see(&self, name: &str) -> Visible {
        self.presence.get(&user("friend"), &[user(name)]).await.remove(0)
    }

    async fn status(&self, name: &str) -> Status {
        self.see(name).await.status
    }

    fn told(&self) -> Vec<Status> {
        std::mem::take(&mut *self.updates.0.lock()).iter().map(|update| update.seen.status).collect()
    }

    /// What it sends now; its own time moves on by a tick.
    async fn letters(&self) -> Vec<(Option<NodeId>, Tidings)> {
        self.clock.advance(TICK);
        let letters = self.presence.tell();
        self.presence.step().await;
        letters
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Every node sends; what `carries` says no to is lost.
async fn tick(nodes: &[&Node], mut carries: impl FnMut(&Tidings, &Node) -> bool) {
    for from in nodes {
        for (to, tidings) in from.letters().await {
            for node in nodes.iter().filter(|node| to.as_ref().is_none_or(|to| *to == node.name)) {
                if carries(&tidings, node) {
                    node.presence.hear(&tidings);
                    node.presence.step().await;
                }
            }
        }
    }
}

async fn pass(nodes: &[&Node], span: Millis) {
    for _ in 0..span / TICK {
        tick(nodes, |_, _| true).await;
    }
}

#[tokio::test]
async fn a_status_is_seen_at_every_node_and_each_change_is_told_once() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    let nodes = [&one, &two];
    one.watch("bob").await;
    two.report("bob", 7, ReportKind::Connected);
    pass(&nodes, 1_000).await;
    assert_eq!(one.status("bob").await, Status::Online);
    two.report("bob", 7, ReportKind::Declared(Status::Away));
    pass(&nodes, 1_000).await;
    assert_eq!(one.status("bob").await, Status::Away);
    two.report("bob", 7, ReportKind::Disconnected);
    pass(&nodes, GRACE + 1_000).await;
    assert_eq!(one.status("bob").await, Status::Offline);
    assert_eq!(one.told(), [Status::Online, Status::Away, Status::Offline]);
}

#[tokio::test]
async fn a_user_with_devices_at_two_nodes_is_online_until_both_are_closed() {
    let (one, two, three) = (Node::new("n1"), Node::new("n2"), Node::new("n3"));
    let nodes = [&one, &two, &three];
    for node in nodes {
        node.watch("bob").await;
    }
    one.report("bob", 7, ReportKind::Connected);
    two.report("bob", 7, ReportKind::Connected);
    pass(&nodes, 1_000).await;
    two.report("bob", 7, ReportKind::Disconnected);
    pass(&nodes, GRACE * 3).await;
    for node in nodes {
        assert_eq!(node.told(), [Status::Online], "{}", node.name);
    }
    one.report("bob", 7, ReportKind::Disconnected);
    pass(&nodes, GRACE * 2).await;
    for node in nodes {
        assert_eq!(node.told(), [Status::Offline], "{}", node.name);
    }
}

#[tokio::test]
async fn connections_at_other_nodes_are_counted_by_device_and_address_as_long_as_those_are_heard() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    let nodes = [&one, &two];
    one.report("bob", 1, ReportKind::Connected);
    for connection in [7, 17, 8] {
        two.report("bob", connection, ReportKind::Connected);
    }
    pass(&nodes, 1_000).await;
    let counted = |node: &Node| {
        let mut devices: Vec<u64> = node.presence.elsewhere(&user("bob")).into_iter().map(u64::from_be_bytes).collect();
        devices.sort_unstable();
        (devices, [7u64, 8, 1].map(|address| node.presence.elsewhere_from(&address.to_be_bytes())))
    };
    assert_eq!(counted(&one), (vec![7, 8, 17], [2, 1, 0]));
    assert_eq!(counted(&two), (vec![1], [0, 0, 1]));
    two.report("bob", 17, ReportKind::Disconnected);
    pass(&nodes, 1_000).await;
    assert_eq!(counted(&one), (vec![7, 8], [1, 1, 0]));
    pass(&[&one], PresenceConfig::default().node_lease_ms + 1_000).await;
    assert_eq!(counted(&one), (vec![], [0, 0, 0]), "each node alone");
}

#[tokio::test]
async fn quiet_connections_cost_a_renewal_a_node_and_no_words() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    for n in 0..2_500 {
        two.report(&format!("u{n}"), n, ReportKind::Connected);
    }
    pass(&[&one, &two], 1_000).await;
    assert_eq!(one.presence.figures().remote, 2_500);
    let mut sent = Vec::new();
    for _ in 0..60_000 / TICK {
        for n in 0..100 {
            two.report(&format!("u{n}"), n, ReportKind::Alive);
        }
        tick(&[&one, &two], |tidings, node| {
            if tidings.node == two.name && node.name == one.name {
                sent.push(tidings.told.clone());
            }
            true
        })
        .await;
    }
    assert!(sent.iter().all(|told| *told == Told::Renewal), "{sent:?}");
    assert!((11..=13).contains(&sent.len()), "every third of a lease: {}", sent.len());
    assert_eq!(one.status("u2499").await, Status::Online);
}

#[tokio::test]
async fn when_a_node_is_silent_for_its_lease_its_users_are_gone_and_not_before() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    one.watch("bob").await;
    two.report("bob", 7, ReportKind::Connected);
    pass(&[&one, &two], 1_000).await;
    assert_eq!(one.told(), [Status::Online]);
    pass(&[&one], LEASE - 1_000).await;
    assert_eq!(one.rules.asked.lock().last(), Some(&("bob".to_owned(), Event::Connected, 1)));
    pass(&[&one], GRACE + 2_000).await;
    assert_eq!(one.told(), [Status::Offline]);
    assert_eq!(one.presence.figures().nodes, 0);
    // It was only cut off: what it holds is known again.
    two.clock.advance(LEASE + GRACE);
    pass(&[&one, &two], 6_000).await;
    assert_eq!(one.told(), [Status::Online]);
}

#[tokio::test]
async fn who_stood_still_does_not_say_that_others_were_silent() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    one.watch("bob").await;
    two.report("bob", 7, ReportKind::Connected);
    pass(&[&one, &two], 1_000).await;
    one.clock.advance(LEASE * 4);
    // Longer than the policy waits, shorter than the lease.
    pass(&[&one], GRACE + 2_000).await;
    pass(&[&one, &two], 60_000).await;
    assert_eq!(one.told(), [Status::Online]);
}

#[tokio::test]
async fn lost_news_are_noticed_by_the_next_renewal_and_nobody_goes_and_comes() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    let nodes = [&one, &two];
    for name in ["bob", "carol", "dave"] {
        one.watch(name).await;
    }
    two.report("bob", 1, ReportKind::Connected);
    two.report("carol", 2, ReportKind::Connected);
    pass(&nodes, 1_000).await;
    assert_eq!(one.told(), [Status::Online, Status::Online]);
    two.report("carol", 2, ReportKind::Disconnected);
    two.report("dave", 3, ReportKind::Connected);
    two.report("bob", 1, ReportKind::Declared(Status::Away));
    tick(&nodes, |tidings, _| !matches!(tidings.told, Told::News(_))).await;
    assert_eq!(one.told(), []);
    pass(&nodes, GRACE + LEASE / 3 + 1_000).await;
    let mut told = one.told();
    told.sort();
    assert_eq!(told, [Status::Offline, Status::Away, Status::Online], "carol, bob, dave, each once");
}

#[tokio::test]
async fn news_that_come_late_or_twice_change_nothing() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    let mut kept = Vec::new();
    for kind in [ReportKind::Connected, ReportKind::Declared(Status::Away), ReportKind::Disconnected] {
        two.report("bob", 7, kind);
        for (_, tidings) in two.letters().await {
            one.presence.hear(&tidings);
            kept.push(tidings);
        }
    }
    one.presence.step().await;
    one.clock.advance(GRACE);
    one.presence.step().await;
    assert_eq!(one.status("bob").await, Status::Offline);
    for old in kept.iter().chain(kept.iter().rev()) {
        one.presence.hear(old);
    }
    one.presence.step().await;
    assert_eq!(one.status("bob").await, Status::Offline);
    assert_eq!(one.presence.figures().remote, 0);
}

#[tokio::test]
async fn a_new_life_of_a_node_ends_the_old_one_at_once_and_old_news_do_not_bring_it_back() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    two.report("bob", 1, ReportKind::Connected);
    two.report("carol", 2, ReportKind::Connected);
    let mut old: Vec<Tidings> = Vec::new();
    for _ in 0..5 {
        two.report("carol", 2, ReportKind::Active);
        old.extend(two.letters().await.into_iter().map(|(_, tidings)| tidings));
    }
    two.report("carol", 3, ReportKind::Connected);
    old.extend(two.letters().await.into_iter().map(|(_, tidings)| tidings));
    old.iter().for_each(|tidings| one.presence.hear(tidings));
    one.presence.step().await;
    one.watch("bob").await;
    // The second life has connections of the same number.
    let again = Node::born("n2", 2, PresenceConfig::default());
    again.report("bob", 1, ReportKind::Connected);
    pass(&[&one, &again], 1_000).await;
    old.iter().for_each(|tidings| one.presence.hear(tidings));
    assert_eq!(one.presence.figures().remote, 1);
    pass(&[&one, &again], GRACE).await;
    assert_eq!(one.told(), [], "bob came back within the policy's grace");
    assert_eq!((one.status("bob").await, one.status("carol").await), (Status::Online, Status::Offline));
    assert_eq!(one.presence.figures().remote, 1);
}

#[tokio::test]
async fn a_new_life_with_a_smaller_number_is_believed_once_the_old_one_is_silent() {
    let (one, two) = (Node::new("n1"), Node::born("n2", 9, PresenceConfig::default()));
    two.report("bob", 1, ReportKind::Connected);
    pass(&[&one, &two], 1_000).await;
    // Its clock went back.
    let again = Node::born("n2", 2, PresenceConfig::default());
    again.report("carol", 1, ReportKind::Connected);
    pass(&[&one, &again], 2_000).await;
    assert_eq!(one.status("carol").await, Status::Offline);
    pass(&[&one, &again], LEASE + GRACE).await;
    assert_eq!((one.status("bob").await, one.status("carol").await), (Status::Offline, Status::Online));
}

#[tokio::test]
async fn a_node_that_comes_later_learns_who_is_there_and_how_long_they_were_idle() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    for n in 0..2_500 {
        two.report(&format!("u{n}"), n, ReportKind::Connected);
    }
    for _ in 0..10 {
        pass(&[&two], 31_000).await;
        (0..2_500).for_each(|n| two.report(&format!("u{n}"), n, ReportKind::Alive));
    }
    two.report("u3", 3, ReportKind::Active);
    one.watch("u4").await;
    pass(&[&one, &two], 6_000).await;
    assert_eq!(one.presence.figures().remote, 2_500);
    assert_eq!((one.status("u3").await, one.status("u4").await), (Status::Online, Status::Away));
    assert_eq!(one.told(), [Status::Away]);
}

#[tokio::test]
async fn a_page_of_the_whole_that_is_lost_is_asked_for_again() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    for n in 0..2_500 {
        two.report(&format!("u{n}"), n, ReportKind::Connected);
    }
    pass(&[&two], 1_000).await;
    let mut lost = 0;
    for _ in 0..12_000 / TICK {
        tick(&[&one, &two], |tidings, _| {
            let unlucky = matches!(tidings.told, Told::Whole { page: 1, .. }) && lost == 0;
            lost += usize::from(unlucky);
            !unlucky
        })
        .await;
    }
    assert_eq!((lost, one.presence.figures().remote), (1, 2_500));
}

#[tokio::test]
async fn what_is_declared_holds_at_all_nodes_whoever_declared_it_until_the_last_connection_ends() {
    let (one, two, three) = (Node::new("n1"), Node::new("n2"), Node::new("n3"));
    let nodes = [&one, &two, &three];
    one.report("bob", 1, ReportKind::Connected);
    two.report("bob", 2, ReportKind::Connected);
    pass(&nodes, 1_000).await;
    // Two devices at one moment: the later number wins everywhere.
    one.report("bob", 1, ReportKind::Declared(Status::Away));
    two.report("bob", 2, ReportKind::Declared(Status::Online));
    pass(&nodes, 2_000).await;
    let statuses = [one.status("bob").await, two.status("bob").await, three.status("bob").await];
    assert!(statuses.iter().all(|status| *status == statuses[0]), "{statuses:?}");
    two.report("bob", 2, ReportKind::Declared(Status::Away));
    pass(&nodes, 1_000).await;
    two.report("bob", 2, ReportKind::Disconnected);
    pass(&nodes, 1_000).await;
    for node in nodes {
        assert_eq!(node.status("bob").await, Status::Away, "{}: it is that of the other device too", node.name);
    }
    one.report("bob", 1, ReportKind::Disconnected);
    pass(&nodes, GRACE + 1_000).await;
    three.report("bob", 3, ReportKind::Connected);
    pass(&nodes, 1_000).await;
    for node in nodes {
        assert_eq!(node.status("bob").await, Status::Online, "{}", node.name);
    }
}

#[tokio::test]
async fn last_seen_is_that_of_the_newest_activity_at_any_node() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    let nodes = [&one, &two];
    one.report("bob", 1, ReportKind::Connected);
    two.report("bob", 2, ReportKind::Connected);
    pass(&nodes, 60_000).await;
    two.report("bob", 2, ReportKind::Active);
    let active = two.clock.now();
    pass(&nodes, 30_000).await;
    for node in nodes {
        let seen = node.see("bob").await.last_seen.unwrap();
        assert!(seen.abs_diff(active) <= 2 * TICK, "{}: {seen} is not {active}", node.name);
    }
}

#[tokio::test]
async fn after_something_was_missed_the_archive_is_asked_when_somebody_was_last_seen() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    two.report("bob", 1, ReportKind::Connected);
    pass(&[&one, &two], 1_000).await;
    pass(&[&one], LEASE + GRACE + 1_000).await;
    // Bob came to the other node and went while nobody could tell.
    let later = one.clock.now() + 500_000;
    *one.archive.0.lock() = Some(later);
    assert_eq!(one.see("bob").await.last_seen, Some(later));
}

#[tokio::test]
async fn memory_is_bounded_whatever_others_tell() {
    let config = PresenceConfig { remote_connections_max: 100, users_max: 500, ..PresenceConfig::default() };
    let (one, two) = (Node::born("n1", 1, config), Node::new("n2"));
    for n in 0..1_000 {
        two.report(&format!("u{n}"), n, ReportKind::Connected);
    }
    pass(&[&one, &two], 1_000).await;
    let figures = one.presence.figures();
    assert_eq!((figures.remote, figures.users, figures.refused), (100, 100, 900));
    for n in 0..1_000 {
        two.report(&format!("u{n}"), n, ReportKind::Disconnected);
    }
    pass(&[&one, &two], 1_000).await;
    assert_eq!(one.presence.figures().remote, 0);
}

#[tokio::test]
async fn more_news_than_there_is_room_for_become_one_whole() {
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    two.report("bob", 1, ReportKind::Connected);
    pass(&[&one, &two], 1_000).await;
    for _ in 0..70_000 {
        two.report("bob", 1, ReportKind::Active);
    }
    two.report("bob", 1, ReportKind::Declared(Status::Away));
    let letters = two.letters().await;
    assert!(letters.iter().all(|(_, tidings)| !matches!(tidings.told, Told::News(_))), "{}", letters.len());
    pass(&[&one, &two], 6_000).await;
    assert_eq!(one.status("bob").await, Status::Away);
}

/// What can happen to one of three nodes.
#[derive(Debug, Clone)]
enum Step {
    Report { node: usize, user: u8, connection: u8, kind: u8 },
    Ticks(u8),
    Cut(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let report = (0usize..3, 0u8..3, 0u8..3, 0u8..5).prop_map(|(node, user, connection, kind)| Step::Report {
        node,
        user,
        connection,
        kind,
    });
    let step = prop_oneof![6 => report, 3 => (1u8..30).prop_map(Step::Ticks), 1 => any::<bool>().prop_map(Step::Cut)];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn however_much_is_lost_doubled_and_turned_around_all_nodes_come_to_see_the_same(steps in steps(), seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let nodes = [Node::new("n1"), Node::new("n2"), Node::new("n3")];
            let nodes: Vec<&Node> = nodes.iter().collect();
            let mut dice = Dice(seed | 1);
            let (mut cut, mut late): (bool, Vec<Tidings>) = (false, Vec::new());
            for step in steps {
                match step {
                    Step::Report { node, user, connection, kind } => {
                        let kind = [
                            ReportKind::Connected,
                            ReportKind::Active,
                            ReportKind::Disconnected,
                            ReportKind::Declared(Status::Away),
                            ReportKind::Declared(Status::Online),
                        ][usize::from(kind)];
                        // A connection is one user's.
                        nodes[node].report(&format!("u{user}"), u64::from(user * 3 + connection), kind);
                    }
                    Step::Ticks(count) => {
                        for _ in 0..count {
                            tick(&nodes, |tidings, _| {
                                if dice.throw(4) == 0 {
                                    late.push(tidings.clone());
                                }
                                !cut && dice.throw(3) > 0
                            })
                            .await;
                            if !late.is_empty() && dice.throw(2) == 0 {
                                let old = late.swap_remove(dice.throw(late.len()));
                                let to = nodes[dice.throw(3)];
                                to.presence.hear(&old);
                            }
                        }
                    }
                    Step::Cut(whether) => cut = whether,
                }
            }
            pass(&nodes, LEASE + GRACE + 1_000).await;
            for name in ["u0", "u1", "u2"] {
                let statuses = [nodes[0].status(name).await, nodes[1].status(name).await, nodes[2].status(name).await];
                assert!(statuses.iter().all(|status| *status == statuses[0]), "{name}: {statuses:?}");
            }
            let mut told = Vec::new();
            // To ask for what is open moves the time, and takes the news of that moment from the others: a lease may end just then. They miss it, and
            // the next renewal tells them so.
            for _ in 0..3 {
                let own: Vec<usize> = nodes.iter().map(|node| node.open()).collect();
                let open: usize = own.iter().sum();
                told = nodes.iter().zip(own).map(|(node, own)| (node.presence.figures().remote, open - own)).collect();
                if told.iter().all(|(remote, others)| remote == others) {
                    break;
                }
                pass(&nodes, LEASE).await;
            }
            assert!(told.iter().all(|(remote, others)| remote == others), "known of others, and what those hold: {told:?}");
        });
    }
}

struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

impl Node {
    /// Connections that it holds: what it answers to somebody who asks for the whole.
    fn open(&self) -> usize {
        let ask = Tidings { node: NodeId::new("asker").unwrap(), life: 1, number: 0, told: Told::Ask { whole: true } };
        self.presence.hear(&ask);
        self.clock.advance(1_000);
        let letters = self.presence.tell();
        let words = letters.iter().filter_map(|(_, tidings)| match &tidings.told {
            Told::Whole { words, .. } => Some(words),
            _ => None,
        });
        words.flatten().filter(|word| matches!(word.said, Said::Here { .. })).count()
    }
}
