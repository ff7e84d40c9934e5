//! Who has how many connections, and how many frames one may send.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{ConnectionId, DeviceId, UserId, brief_hash};
use parking_lot::Mutex;

/// What is open now; both maps are bounded by `sockets_max`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sockets: Mutex<HashMap<IpAddr, u32>>,
    addresses: Mutex<HashMap<IpAddr, u32>>,
    users: Mutex<HashMap<UserId, Vec<(ConnectionId, DeviceId)>>>,
}

/// Which map an address is counted in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Per {
    /// Sockets, before anything is known of them.
    Socket,
    /// WebSocket connections.
    Connection,
}

/// One that is counted for an address until it is dropped.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    counts: Arc<Counts>,
    per: Per,
    ip: IpAddr,
}

/// A connection that is counted for its user until it is dropped.
#[derive(Debug)]
pub(crate) struct UserSlot {
    counts: Arc<Counts>,
    user: UserId,
    connection: ConnectionId,
}

impl Counts {
    fn addresses(&self, per: Per) -> &Mutex<HashMap<IpAddr, u32>> {
        match per {
            Per::Socket => &self.sockets,
            Per::Connection => &self.addresses,
        }
    }

    /// Counts one more; none if there are `max` already.
    pub(crate) fn enter(self: &Arc<Self>, per: Per, ip: IpAddr, max: u32) -> Option<AddressSlot> {
        let mut addresses = self.addresses(per).lock();
        let count = addresses.entry(ip).or_default();
        if *count >= max {
            if *count == 0 {
                addresses.remove(&ip);
            }
            return None;
        }
        *count += 1;
        Some(AddressSlot { counts: Arc::clone(self), per, ip })
    }

    /// Connections from this address.
    pub(crate) fn of_address(&self, ip: IpAddr) -> u32 {
        self.addresses.lock().get(&ip).copied().unwrap_or(0)
    }

    /// Connections of this user.
    pub(crate) fn of_user(&self, user: &UserId) -> u32 {
        self.users.lock().get(user).map_or(0, |open| u32::try_from(open.len()).unwrap_or(u32::MAX))
    }

    /// Counts one more; none if `max` other devices of the user are connected, here or `elsewhere`, which gives the marks of those at other nodes.
    /// The same device again replaces the older one, so it is not counted against itself. Of two that come to two nodes at once neither counts
    /// for the other: there may be one more for each node.
    pub(crate) fn join(
        self: &Arc<Self>,
        user: &UserId,
        device: &DeviceId,
        connection: ConnectionId,
        max: u32,
        elsewhere: &[[u8; 8]],
    ) -> Option<UserSlot> {
        let mut users = self.users.lock();
        let open = users.entry(user.clone()).or_default();
        let mark = |device: &DeviceId| brief_hash(device.as_str().as_bytes());
        let mut others: Vec<[u8; 8]> = open.iter().map(|(_, other)| mark(other)).collect();
        others.extend_from_slice(elsewhere);
        let own = mark(device);
        others.retain(|other| *other != own);
        others.sort_unstable();
        others.dedup();
        if others.len() >= max as usize {
            if open.is_empty() {
                users.remove(user);
            }
            return None;
        }
        open.push((connection, device.clone()));
        Some(UserSlot { counts: Arc::clone(self), user: user.clone(), connection })
    }

    /// Users and addresses that have connections.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.users.lock().len(), self.addresses.lock().len())
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut addresses = self.counts.addresses(self.per).lock();
        if let Entry::Occupied(mut count) = addresses.entry(self.ip) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Drop for UserSlot {
    fn drop(&mut self) {
        let mut users = self.counts.users.lock();
        if let Some(open) = users.get_mut(&self.user) {
            open.retain(|(connection, _)| *connection != self.connection);
            if open.is_empty() {
                users.remove(&self.user);
            }
        }
    }
}

/// An address as nodes tell each other of it.
pub(crate) fn address_mark(ip: IpAddr) -> [u8; 8] {
    match ip {
        IpAddr::V4(ip) => brief_hash(&ip.octets()),
        IpAddr::V6(ip) => brief_hash(&ip.octets()),
    }
}

/// A bucket that fills with time and is emptied by frames.
#[derive(Debug, Clone)]
pub(crate) struct FrameBudget {
    /// Thousandths of a frame.
    left: u64,
    /// Of the monotonic clock, milliseconds.
    filled_at: u64,
}

impl FrameBudget {
    /// A full one.
    pub(crate) fn full(burst_max: u32, now: Duration) -> Self {
        Self { left: u64::from(burst_max) * 1_000, filled_at: millis(now) }
    }

    /// Takes a frame out; false if there is none.
    pub(crate) fn take(&mut self, now: Duration, per_second_max: u32, burst_max: u32) -> bool {
        let now = millis(now);
        let fill = now.saturating_sub(self.filled_at).saturating_mul(u64::from(per_second_max));
        self.left = self.left.saturating_add(fill).min(u64::from(burst_max) * 1_000);
        self.filled_at = self.filled_at.max(now);
        match self.left.checked_sub(1_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    #[test]
    fn the_sixth_device_is_refused_and_the_fifth_may_come_again() {
        let counts = Arc::new(Counts::default());
        let alice = UserId::new("alice").unwrap();
        let mut open: Vec<UserSlot> =
            (0..5).map(|n| counts.join(&alice, &device(&format!("d{n}")), ConnectionId(n), 5, &[]).unwrap()).collect();
        assert!(counts.join(&alice, &device("d5"), ConnectionId(5), 5, &[]).is_none());
        let again = counts.join(&alice, &device("d4"), ConnectionId(6), 5, &[]).unwrap();
        open.remove(4);
        assert_eq!(counts.of_user(&alice), 5);
        drop(again);
        assert!(counts.join(&alice, &device("d5"), ConnectionId(7), 5, &[]).is_some());
    }

    #[test]
    fn devices_at_other_nodes_count_and_one_that_changes_its_node_does_not_count_twice() {
        let counts = Arc::new(Counts::default());
        let alice = UserId::new("alice").unwrap();
        let join = |name: &str, max, elsewhere: &[&str]| {
            let marks: Vec<_> = elsewhere.iter().map(|name| brief_hash(name.as_bytes())).collect();
            counts.join(&alice, &device(name), ConnectionId(1), max, &marks).is_some()
        };
        assert!(!join("d2", 2, &["d0", "d1"]));
        assert_eq!(counts.sizes().0, 0, "who was refused is not remembered");
        assert!(join("d1", 2, &["d0", "d1"]) && join("d2", 2, &["d0", "d0"]) && !join("d2", 1, &["d0"]));
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let counts = Arc::new(Counts::default());
        let ip: IpAddr = "203.0.113.9".parse().unwrap();
        let slots: Vec<AddressSlot> = (0..10).filter_map(|_| counts.enter(Per::Connection, ip, 10)).collect();
        assert_eq!((slots.len(), counts.of_address(ip)), (10, 10));
        assert!(counts.enter(Per::Connection, ip, 10).is_none());
        assert!(counts.enter(Per::Socket, ip, 10).is_some());
        drop(slots);
        assert!(counts.enter(Per::Connection, ip, 0).is_none());
        assert_eq!(counts.sizes(), (0, 0));
    }

    #[test]
    fn a_flood_empties_the_budget_and_time_fills_it() {
        let mut budget = FrameBudget::full(3, Duration::ZERO);
        let mut take = |at_ms: u64| budget.take(Duration::from_millis(at_ms), 10, 3);
        assert_eq!([take(0), take(0), take(0), take(0)], [true, true, true, false]);
        assert_eq!([take(99), take(100), take(100)], [false, true, false]);
        assert_eq!([take(9_000), take(9_000), take(9_000), take(9_000)], [true, true, true, false]);
    }
}
