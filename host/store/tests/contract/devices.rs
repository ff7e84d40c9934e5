//! Devices and reads.

use heddle_model::{DeviceId, UserId};
use heddle_store::{DeviceRow, Store};

use crate::fixture::*;

fn device(name: &str, position: u64, seen_at: u64) -> DeviceRow {
    DeviceRow::new(DeviceId::new(name).unwrap(), at(position), seen_at, 0)
}

fn bobs(rows: impl IntoIterator<Item = DeviceRow>) -> Vec<(UserId, DeviceRow)> {
    rows.into_iter().map(|row| (user("bob"), row)).collect()
}

pub(crate) async fn devices_keep_the_larger_position_and_the_later_time(store: &Store) {
    let rows = [device("phone", 10, 100), device("laptop", 5, 200), device("phone", 8, 150), device("laptop", 7, 90)];
    for row in rows {
        store.devices.save_devices(bobs([row]), 20).await.unwrap();
    }
    let read = store.devices.devices(&user("bob")).await.unwrap();
    assert_eq!(read, [device("laptop", 7, 200), device("phone", 10, 150)]);
    store.devices.save_devices(Vec::new(), 20).await.unwrap();
    assert!(store.devices.devices(&user("alice")).await.unwrap().is_empty());
}

pub(crate) async fn a_reset_moves_a_position_back(store: &Store) {
    store.devices.save_devices(bobs([device("phone", 10, 100)]), 20).await.unwrap();
    store.devices.reset_device(&user("bob"), device("phone", 3, 110), 20).await.unwrap();
    store.devices.reset_device(&user("bob"), device("new", 4, 120), 20).await.unwrap();
    let read = store.devices.devices(&user("bob")).await.unwrap();
    assert_eq!(read, [device("new", 4, 120), device("phone", 3, 110)]);
}

pub(crate) async fn a_device_that_was_set_back_hears_nothing_of_the_turn_before(store: &Store) {
    let (bob, phone) = (user("bob"), DeviceId::new("phone").unwrap());
    let devices = async || store.devices.devices(&bob).await.unwrap();
    let save = async |row| store.devices.save_devices(bobs([row]), 20).await.unwrap();
    store.devices.save_devices(bobs([device("phone", 10, 100), device("laptop", 5, 90)]), 20).await.unwrap();
    assert_eq!(store.devices.replay_devices(&user("carol"), None, at(3)).await.unwrap(), []);
    assert_eq!(store.devices.replay_devices(&bob, Some(&phone), at(3)).await.unwrap(), [phone]);
    let set_back = DeviceRow { replay: Some(at(3)), turn: 1, ..device("phone", 10, 100) };
    assert_eq!(devices().await, [set_back.clone(), device("laptop", 5, 90)]);
    // Acknowledged before it was set back, saved later: only that it was there counts.
    save(device("phone", 12, 110)).await;
    store.devices.reset_device(&bob, device("phone", 1, 105), 20).await.unwrap();
    assert_eq!(devices().await[0], DeviceRow { seen_at: 110, ..set_back.clone() });
    // It goes back, and the replay lasts until something beyond is acknowledged.
    let turn = |position, seen_at| DeviceRow { turn: 1, ..device("phone", position, seen_at) };
    store.devices.reset_device(&bob, turn(2, 120), 20).await.unwrap();
    save(turn(3, 130)).await;
    assert_eq!(devices().await[0], DeviceRow { replay: Some(at(3)), ..turn(3, 130) });
    save(turn(4, 120)).await;
    assert_eq!(devices().await[0], turn(4, 130));
    let mut both = store.devices.replay_devices(&bob, None, at(0)).await.unwrap();
    both.sort();
    assert_eq!(both.iter().map(DeviceId::as_str).collect::<Vec<_>>(), ["laptop", "phone"]);
    assert_eq!(devices().await[0], DeviceRow { replay: Some(at(0)), turn: 2, ..turn(4, 130) });
}

pub(crate) async fn the_least_recently_seen_devices_are_forgotten(store: &Store) {
    let many = (0..30).map(|n| device(&format!("d{n:02}"), n, 1_000 - n));
    store.devices.save_devices(bobs(many), 20).await.unwrap();
    store.devices.save_devices(vec![(user("alice"), device("hers", 1, 1))], 20).await.unwrap();
    let read = store.devices.devices(&user("bob")).await.unwrap();
    let names: Vec<_> = read.iter().map(|row| row.device.as_str().to_owned()).collect();
    assert_eq!(names, (0..20).map(|n| format!("d{n:02}")).collect::<Vec<_>>());
    store.devices.reset_device(&user("bob"), device("newest", 1, 2_000), 20).await.unwrap();
    let read = store.devices.devices(&user("bob")).await.unwrap();
    assert_eq!((read.len(), read[0].device.as_str(), read[19].device.as_str()), (20, "newest", "d18"));
    assert_eq!(store.devices.devices(&user("alice")).await.unwrap().len(), 1);
}

pub(crate) async fn a_read_position_only_grows(store: &Store) {
    for (name, order) in [("user:alice", 5), ("group:g", 9), ("user:alice", 3), ("group:g", 11)] {
        store.devices.save_read(&user("bob"), &conversation(name), at(order)).await.unwrap();
    }
    let mut reads = store.devices.reads(&user("bob")).await.unwrap();
    reads.sort_unstable();
    assert_eq!(reads, [(conversation("user:alice"), at(5)), (conversation("group:g"), at(11))]);
}
