//! Who watches whom, and from which connection.

use std::collections::HashSet;

use heddle_model::UserId;

use super::Users;
use crate::{PresenceConfig, PresenceError, Socket};

/// What a connection watches.
pub(super) struct Watch {
    pub(super) viewer: UserId,
    pub(super) users: HashSet<UserId>,
}

impl Users {
    /// The sockets from which `viewer` watches the user.
    pub(crate) fn watching(&self, user: &UserId, viewer: &UserId) -> Vec<Socket> {
        let watchers = self.tracked.get(user).into_iter().flat_map(|tracked| &tracked.watchers);
        let by = |socket: &&Socket| self.watches.get(socket).is_some_and(|watch| watch.viewer == *viewer);
        watchers.filter(by).cloned().collect()
    }

    /// Those of the sockets that watch the user at this moment.
    pub(crate) fn still_watching(&self, user: &UserId, mut sockets: Vec<Socket>) -> Vec<Socket> {
        let watchers = self.tracked.get(user).map(|tracked| &tracked.watchers);
        sockets.retain(|socket| watchers.is_some_and(|watchers| watchers.contains(socket)));
        sockets
    }

    pub(crate) fn watch(
        &mut self,
        config: &PresenceConfig,
        viewer: &UserId,
        socket: &Socket,
        users: &[UserId],
    ) -> Result<(), PresenceError> {
        let held = self.watches.get(socket).map(|watch| &watch.users);
        let new: HashSet<&UserId> = users.iter().filter(|user| held.is_none_or(|held| !held.contains(*user))).collect();
        let watched = held.map_or(0, HashSet::len) + new.len();
        let max = config.watched_per_connection_max;
        if watched > max {
            return Err(PresenceError::TooManyWatched { watched, max });
        }
        for user in new {
            if !self.make_room(config, user) {
                continue;
            }
            let tracked = self.tracked.entry(user.clone()).or_default();
            if tracked.watchers.len() >= config.watchers_per_user_max {
                self.refused += 1;
                continue;
            }
            tracked.watchers.insert(socket.clone());
            let watch = Watch { viewer: viewer.clone(), users: HashSet::new() };
            self.watches.entry(socket.clone()).or_insert(watch).users.insert(user.clone());
        }
        Ok(())
    }

    pub(crate) fn unwatch(&mut self, socket: &Socket, users: &[UserId]) {
        let Some(watch) = self.watches.get_mut(socket) else { return };
        let gone: Vec<UserId> = users.iter().filter(|user| watch.users.remove(*user)).cloned().collect();
        if watch.users.is_empty() {
            self.watches.remove(socket);
        }
        self.forget_watcher(socket, gone);
    }

    pub(crate) fn drop_socket(&mut self, socket: &Socket) {
        if let Some(watch) = self.watches.remove(socket) {
            self.forget_watcher(socket, watch.users);
        }
    }

    fn forget_watcher(&mut self, socket: &Socket, users: impl IntoIterator<Item = UserId>) {
        for user in users {
            if let Some(tracked) = self.tracked.get_mut(&user) {
                tracked.watchers.remove(socket);
            }
            self.note_evictable(&user);
        }
    }
}
