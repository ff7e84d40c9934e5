//! Other nodes: how far each was heard, and until when it is believed.
//!
//! What a node holds is believed while it is heard: its news, or a renewal every third of the lease. A node whose news have a hole is asked for
//! the whole; so whatever the bus loses, doubles or turns around, the next thing that is heard mends it. Silence is counted only while this node
//! itself runs: who stood still cannot say that others said nothing.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use heddle_model::{ConnectionId, Millis, NodeId, UserId};

use crate::users::{Held, NEVER, Now, Users};
use crate::{PresenceConfig, Said, Socket, Tidings, Told, Word};

/// Words in one message.
const PAGE: usize = 1_000;
/// Pages of one node's whole.
const PAGES_MAX: usize = 4_096;
/// Nodes that are listened to; far above the nodes that there are.
const PEERS_MAX: usize = 1_024;
/// The longest step that counts as listening.
const STEP_MAX: Millis = 1_000;
/// A node says at least so often that it is there.
const RENEW_MAX: Millis = 5_000;
/// The whole is told at most so often.
const WHOLE_PAUSE: Millis = 1_000;

/// What is sent, and to whom; none: to all.
pub(crate) type Letter = (Option<NodeId>, Tidings);

/// This node among others.
pub(crate) struct Peers {
    node: NodeId,
    life: u64,
    number: u64,
    told_at: Option<Millis>,
    whole_at: Option<Millis>,
    hail: bool,
    /// Nodes that wait for a renewal, and for the whole.
    hailed: BTreeSet<NodeId>,
    asked: BTreeSet<NodeId>,
    /// Nodes that are to be asked for the whole.
    ask: BTreeSet<NodeId>,
    peers: HashMap<NodeId, Peer>,
    /// Connections of all peers.
    connections: usize,
    /// How many of them come from each address.
    addresses: HashMap<[u8; 8], u32>,
    /// For so long this node has listened; and when that was last counted.
    listened: Millis,
    counted: Millis,
    refused: u64,
}

struct Peer {
    life: u64,
    /// Everything up to here is known.
    number: u64,
    heard: Millis,
    asked_at: Option<Millis>,
    gathered: Option<Gathered>,
    connections: HashMap<ConnectionId, Remote>,
}

/// A connection of a peer.
struct Remote {
    user: UserId,
    /// Where it comes from.
    address: [u8; 8],
}

/// Pages of a whole that are there.
struct Gathered {
    number: u64,
    pages: Vec<Option<Vec<Word>>>,
}

impl Peers {
    pub(crate) fn new(node: NodeId, life: u64, now: Now) -> Self {
        Self {
            node,
            life,
            number: 0,
            told_at: None,
            whole_at: None,
            hail: true,
            hailed: BTreeSet::new(),
            asked: BTreeSet::new(),
            ask: BTreeSet::new(),
            peers: HashMap::new(),
            connections: 0,
            addresses: HashMap::new(),
            listened: 0,
            counted: now.steady,
            refused: 0,
        }
    }

    /// Asks everybody how far they are.
    pub(crate) fn hail(&mut self) {
        self.hail = true;
    }

    /// Nodes that are heard, their connections, and those for which there was no room.
    pub(crate) fn figures(&self) -> (usize, usize, u64) {
        (self.peers.len(), self.connections, self.refused)
    }

    /// Connections of other nodes from this address.
    pub(crate) fn at_address(&self, address: &[u8; 8]) -> u32 {
        self.addresses.get(address).copied().unwrap_or(0)
    }

    /// What is to be sent now. Also ends the leases of those that fell silent.
    pub(crate) fn tell(&mut self, config: &PresenceConfig, now: Now, users: &mut Users) -> Vec<Letter> {
        self.listened += now.steady.saturating_sub(self.counted).min(STEP_MAX);
        self.counted = now.steady;
        self.end_leases(config, users);
        let mut letters = Vec::new();
        match users.take_words() {
            Some(words) => {
                for page in words.chunks(PAGE) {
                    self.number += 1;
                    letters.push((None, self.letter(Told::News(page.to_vec()))));
                }
            }
            // A hole in the numbers: others ask for the whole.
            None => self.number += 1,
        }
        let due = self.told_at.is_none_or(|at| now.steady >= at + renew_ms(config));
        if std::mem::take(&mut self.hail) {
            letters.push((None, self.letter(Told::Ask { whole: false })));
        } else if letters.is_empty() && due {
            letters.push((None, self.letter(Told::Renewal)));
        }
        if letters.is_empty() {
            for node in std::mem::take(&mut self.hailed) {
                letters.push((Some(node), self.letter(Told::Renewal)));
            }
        } else {
            // All of them hear what goes to all.
            self.hailed.clear();
            self.told_at = Some(now.steady);
        }
        for node in std::mem::take(&mut self.ask) {
            letters.push((Some(node), self.letter(Told::Ask { whole: true })));
        }
        if !self.asked.is_empty() && self.whole_at.is_none_or(|at| now.steady >= at + WHOLE_PAUSE) {
            self.whole_at = Some(now.steady);
            // After the news, and all at once: it is the state that they lead to.
            self.whole(&users.own_connections(now), &mut letters);
        }
        letters
    }

    fn whole(&mut self, words: &[Word], letters: &mut Vec<Letter>) {
        let pages = words.len().div_ceil(PAGE).clamp(1, PAGES_MAX);
        for node in std::mem::take(&mut self.asked) {
            for page in 0..pages {
                let words = words.chunks(PAGE).nth(page).unwrap_or_default().to_vec();
                let (page, pages) = (page as u32, pages as u32);
                letters.push((Some(node.clone()), self.letter(Told::Whole { page, pages, words })));
            }
        }
    }

    fn letter(&self, told: Told) -> Tidings {
        Tidings { node: self.node.clone(), life: self.life, number: self.number, told }
    }

    fn end_leases(&mut self, config: &PresenceConfig, users: &mut Users) {
        let silent = |peer: &Peer| self.listened >= peer.heard + config.node_lease_ms;
        let ended: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(node, _)| node.clone()).collect();
        for node in ended {
            if let Some(peer) = self.peers.remove(&node) {
                tracing::info!(%node, connections = peer.connections.len(), "a node is silent: nobody is online there");
                self.forget(&node, peer, users);
            }
        }
    }

    fn forget(&mut self, node: &NodeId, peer: Peer, users: &mut Users) {
        self.connections -= peer.connections.len();
        self.ask.remove(node);
        for (connection, remote) in peer.connections {
            leave(&mut self.addresses, remote.address);
            users.gone(&Socket { node: node.clone(), connection }, &remote.user);
        }
        users.doubt();
    }

    /// Takes in what another node tells.
    pub(crate) fn hear(&mut self, config: &PresenceConfig, now: Now, users: &mut Users, tidings: &Tidings) {
        let node = &tidings.node;
        if *node == self.node {
            return;
        }
        let known = self.peers.get(node).map(|peer| peer.life);
        if known.is_some_and(|life| life > tidings.life) || (known.is_none() && self.peers.len() >= PEERS_MAX) {
            return;
        }
        if known.is_some_and(|life| life < tidings.life)
            && let Some(earlier) = self.peers.remove(node)
        {
            self.forget(node, earlier, users);
        }
        let peer = self.peers.entry(node.clone()).or_insert_with(|| Peer {
            life: tidings.life,
            number: 0,
            heard: 0,
            asked_at: None,
            gathered: None,
            connections: HashMap::new(),
        });
        peer.heard = self.listened;
        match &tidings.told {
            Told::Renewal => {}
            Told::Ask { whole: true } => drop(self.asked.insert(node.clone())),
            Told::Ask { whole: false } => drop(self.hailed.insert(node.clone())),
            Told::News(words) if tidings.number == peer.number + 1 => {
                peer.number = tidings.number;
                let mut room = Room {
                    config,
                    now,
                    users,
                    node,
                    connections: &mut self.connections,
                    addresses: &mut self.addresses,
                    refused: &mut self.refused,
                };
                for word in words {
                    room.take(&mut peer.connections, word);
                }
            }
            // Old, or after a hole.
            Told::News(_) => {}
            Told::Whole { page, pages, words } => {
                let whole = peer.gather(tidings.number, *page, *pages, words);
                if let Some(words) = whole {
                    (peer.number, peer.asked_at) = (tidings.number, None);
                    let mut room = Room {
                        config,
                        now,
                        users,
                        node,
                        connections: &mut self.connections,
                        addresses: &mut self.addresses,
                        refused: &mut self.refused,
                    };
                    room.replace(&mut peer.connections, &words);
                    users.doubt();
                }
            }
        }
        let asked_lately = peer.asked_at.is_some_and(|at| self.listened < at + renew_ms(config));
        if tidings.number > peer.number && !asked_lately {
            peer.asked_at = Some(self.listened);
            self.ask.insert(node.clone());
        }
    }
}

impl Peer {
    /// All pages of a whole, once the last of them is there.
    fn gather(&mut self, number: u64, page: u32, pages: u32, words: &[Word]) -> Option<Vec<Word>> {
        let (page, pages) = (page as usize, pages as usize);
        if page >= pages || pages > PAGES_MAX || number < self.number {
            return None;
        }
        let gathered = self.gathered.take().filter(|gathered| gathered.number >= number);
        let mut gathered = gathered.unwrap_or_else(|| Gathered { number, pages: vec![None; pages] });
        if gathered.number == number && gathered.pages.len() == pages {
            gathered.pages[page] = Some(words.to_vec());
        }
        if gathered.pages.iter().all(Option::is_some) {
            return Some(gathered.pages.into_iter().flatten().flatten().collect());
        }
        self.gathered = Some(gathered);
        None
    }
}

/// Where words of one node go.
struct Room<'a> {
    config: &'a PresenceConfig,
    now: Now,
    users: &'a mut Users,
    node: &'a NodeId,
    connections: &'a mut usize,
    addresses: &'a mut HashMap<[u8; 8], u32>,
    refused: &'a mut u64,
}

impl Room<'_> {
    fn take(&mut self, known: &mut HashMap<ConnectionId, Remote>, word: &Word) {
        let socket = Socket { node: self.node.clone(), connection: word.connection };
        match &word.said {
            Said::Here { user, idle_ms, declared, mark } => {
                let held = Held { socket, until: NEVER, declared: *declared, mark: *mark };
                let new = !known.contains_key(&word.connection);
                if new && *self.connections >= self.config.remote_connections_max {
                    *self.refused += 1;
                } else if self.users.here(self.config, self.now, user, *idle_ms, held) && new {
                    *self.connections += 1;
                    *self.addresses.entry(mark.address).or_default() += 1;
                    known.insert(word.connection, Remote { user: user.clone(), address: mark.address });
                }
            }
            Said::Active => {
                if let Some(Remote { user, .. }) = known.get(&word.connection) {
                    self.users.active(self.config, self.now, user);
                }
            }
            Said::Declared(declared) => {
                if let Some(Remote { user, .. }) = known.get(&word.connection) {
                    self.users.declared(&socket, user, *declared);
                }
            }
            Said::Gone => {
                if let Some(Remote { user, address }) = known.remove(&word.connection) {
                    *self.connections -= 1;
                    leave(self.addresses, address);
                    self.users.gone(&socket, &user);
                }
            }
        }
    }

    /// These and no others. Those that are known stay as they are, so that nobody goes and comes.
    fn replace(&mut self, known: &mut HashMap<ConnectionId, Remote>, words: &[Word]) {
        let here: std::collections::HashSet<ConnectionId> = words.iter().map(|word| word.connection).collect();
        let gone: Vec<ConnectionId> = known.keys().filter(|connection| !here.contains(connection)).copied().collect();
        for word in words.iter().filter(|word| matches!(word.said, Said::Here { .. })) {
            self.take(known, word);
        }
        for connection in gone {
            self.take(known, &Word { connection, said: Said::Gone });
        }
    }
}

/// One connection less from there.
fn leave(addresses: &mut HashMap<[u8; 8], u32>, address: [u8; 8]) {
    if let Entry::Occupied(mut count) = addresses.entry(address) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// How often a node says that it is there: also, how soon others notice that they missed something.
fn renew_ms(config: &PresenceConfig) -> Millis {
    (config.node_lease_ms / 3).clamp(1, RENEW_MAX)
}
