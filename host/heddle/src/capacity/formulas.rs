//! The formulas: whole numbers only, servers and partitions rounded up, what one server takes rounded down.

use super::amount::Unit;
use super::figures::Figures;
use super::target::{Spare, Target};

/// One result of one column.
pub struct Step {
    /// What it is.
    pub name: &'static str,
    /// Of this region only.
    pub region: Option<String>,
    /// In words.
    pub formula: &'static str,
    /// The same with numbers.
    pub numbers: String,
    /// What it is counted in.
    pub unit: Unit,
    /// The result.
    pub value: u128,
}

struct Sheet(Vec<Step>);

impl Sheet {
    fn put(&mut self, name: &'static str, unit: Unit, formula: &'static str, numbers: String, value: u128) -> u128 {
        self.0.push(Step { name, region: None, formula, numbers, unit, value });
        value
    }

    fn of(&mut self, region: &str, value: u128) -> u128 {
        if let Some(step) = self.0.last_mut() {
            step.region = Some(region.to_owned());
        }
        value
    }
}

const SECONDS_A_DAY: u128 = 86_400;
/// Shares are in hundredths of a per cent.
const WHOLE: u128 = 10_000;

fn n(value: u128) -> String {
    Unit::Count.show(value)
}

fn b(value: u128) -> String {
    Unit::Bytes.show(value)
}

/// Everything, in the order in which it is reckoned. The steps are the same for all figures.
pub fn work(target: &Target, f: &Figures) -> Vec<Step> {
    let mut sheet = Sheet(Vec::new());
    let peak = messages(&mut sheet, target);
    let each_log = logs(&mut sheet, target, f, peak);
    let servers = servers(&mut sheet, target, f, peak, each_log);
    let brokers = log(&mut sheet, target, f, peak, Readers { servers, each_log });
    let archive = archive(&mut sheet, target, f);
    let redis = redis(&mut sheet, target, f, peak);
    let servers_cost = sheet.put(
        "cost of the servers",
        Unit::Dollars,
        "servers × price of a server",
        format!("{} × {}", n(servers), Unit::Dollars.show(f.server_price.get())),
        servers * f.server_price.get(),
    );
    let prices = [(brokers, &f.broker_price), (archive, &f.archive_price), (redis, &f.redis_price)];
    let terms = prices.map(|(count, price)| format!("{} × {}", n(count), Unit::Dollars.show(price.get())));
    let rest = prices.iter().map(|(count, price)| count * price.get()).sum::<u128>();
    sheet.put(
        "cost of brokers, Postgres and Redis",
        Unit::Dollars,
        "brokers × price + Postgres servers × price + Redis servers × price",
        terms.join(" + "),
        rest,
    );
    sheet.put(
        "cost in all",
        Unit::Dollars,
        "cost of the servers + cost of brokers, Postgres and Redis",
        format!("{} + {}", Unit::Dollars.show(servers_cost), Unit::Dollars.show(rest)),
        servers_cost + rest,
    );
    sheet.0
}

/// The peak.
fn messages(sheet: &mut Sheet, target: &Target) -> u128 {
    let day = target.messages_per_day();
    let average = sheet.put(
        "messages a second, average",
        Unit::PerSecond,
        "messages a day / 86,400",
        format!("{} / 86,400", n(day)),
        day.div_ceil(SECONDS_A_DAY),
    );
    let factor = target.peak_factor();
    let (numbers, peak) = match target.peak() {
        Some(peak) => ("as given".to_owned(), peak),
        None => (
            format!("{} × {} / 86,400", n(day), Unit::Hundredths.show(factor)),
            (day * factor).div_ceil(SECONDS_A_DAY * 100),
        ),
    };
    sheet.put(
        "messages a second, peak",
        Unit::PerSecond,
        "as given, or messages a day × peak factor / 86,400",
        numbers,
        peak,
    );
    sheet.put(
        "peak by average",
        Unit::Hundredths,
        "peak / average",
        format!("{} / {}", n(peak), n(average)),
        (peak * 100).div_ceil(average),
    );
    peak
}

/// Servers by region; all of them. `each_log`: the peak of one log, which a server of it follows.
fn servers(sheet: &mut Sheet, target: &Target, f: &Figures, peak: u128, each_log: u128) -> u128 {
    let (memory, share) = (f.server_memory.get(), f.server_memory_percent.get());
    let fits = memory * share / 100 / f.server_connection_bytes.get();
    let each = sheet.put(
        "connections a server",
        Unit::Count,
        "the lesser of connections_max and memory × share / memory of a connection, at least 1",
        format!(
            "min({}, {} × {share} % / {})",
            n(f.server_connections_max.get()),
            b(memory),
            b(f.server_connection_bytes.get())
        ),
        fits.min(f.server_connections_max.get()).max(1),
    );
    sheet.put(
        "memory of connections, a server",
        Unit::Bytes,
        "connections a server × memory of a connection",
        format!("{} × {}", n(each), b(f.server_connection_bytes.get())),
        each * f.server_connection_bytes.get(),
    );
    let (cores, busy, own) = (f.server_cores.get(), f.server_busy_percent.get(), f.server_messages_per_core.get());
    let (follows, read) = (f.server_follows_per_core.get(), f.log_read_by_all.get());
    // In hundredths of a core, times what a core follows.
    let left = (cores * busy * follows).saturating_sub(read * each_log * 100);
    let carries = sheet.put(
        "messages a server",
        Unit::PerSecond,
        "(cores × how busy − read by all × peak of a log / followed per core and second) × messages per core and second, at least 1",
        format!("({cores} × {busy} % − {read} × {} / {}) × {}", n(each_log), n(follows), n(own)),
        (left * own / (100 * follows)).max(1),
    );
    let connections = target.connections();
    let regions: Vec<(&str, u128)> = target.regions().collect();
    let mut by_connections = Vec::new();
    for (region, share) in &regions {
        let count = sheet.put(
            "servers by connections",
            Unit::Count,
            "connections × share / connections a server, rounded up",
            format!("{} × {} % / {}", n(connections), Unit::Hundredths.show(*share), n(each)),
            (connections * share).div_ceil(WHOLE * each),
        );
        by_connections.push(sheet.of(region, count));
    }
    let mut by_messages = Vec::new();
    for (region, share) in &regions {
        let count = sheet.put(
            "servers by messages",
            Unit::Count,
            "peak × share / messages a server, rounded up",
            format!("{} × {} % / {}", n(peak), Unit::Hundredths.show(*share), n(carries)),
            (peak * share).div_ceil(WHOLE * carries),
        );
        by_messages.push(sheet.of(region, count));
    }
    let mut all = Vec::new();
    for ((region, _), (connections, messages)) in regions.iter().zip(by_connections.into_iter().zip(by_messages)) {
        let (numbers, count) = spared(target, connections.max(messages), target.largest_other(region));
        let numbers = numbers.replacen('#', &format!("max({}, {})", n(connections), n(messages)), 1);
        let count = sheet.put("servers", Unit::Count, "the greater of both, with the spare", numbers, count);
        all.push(sheet.of(region, count));
    }
    let sum = all.iter().sum();
    let terms: Vec<String> = all.iter().map(|count| n(*count)).collect();
    sheet.put("servers in all", Unit::Count, "the sum of the regions", terms.join(" + "), sum);
    sheet.put(
        "memory of all connections",
        Unit::Bytes,
        "connections × memory of a connection",
        format!("{} × {}", n(connections), b(f.server_connection_bytes.get())),
        connections * f.server_connection_bytes.get(),
    );
    sum
}

/// `count` with what is kept in reserve; `#` in the text stands for how `count` came about. `lost`: the share of what may be lost.
fn spared(target: &Target, count: u128, lost: u128) -> (String, u128) {
    match target.spare() {
        Spare::None => ("#".to_owned(), count),
        Spare::Server => ("# + 1".to_owned(), count + 1),
        Spare::Region => {
            let left = Unit::Hundredths.show(WHOLE - lost);
            (format!("# / {left} %"), (count * WHOLE).div_ceil(WHOLE - lost))
        }
    }
}

/// Partitions, and how many logs they make; answers the peak of one log.
fn logs(sheet: &mut Sheet, target: &Target, f: &Figures, peak: u128) -> u128 {
    let needed = sheet.put(
        "partitions by messages",
        Unit::Count,
        "peak / messages of a partition, rounded up",
        format!("{} / {}", n(peak), n(f.partition_messages.get())),
        peak.div_ceil(f.partition_messages.get()),
    );
    let asked = target.partitions();
    let count = sheet.put(
        "partitions",
        Unit::Count,
        "the greater of those asked for and those by messages",
        format!("max({}, {})", n(asked), n(needed)),
        asked.max(needed),
    );
    sheet.put(
        "messages a partition, at the peak",
        Unit::PerSecond,
        "peak / partitions",
        format!("{} / {}", n(peak), n(count)),
        peak.div_ceil(count),
    );
    let (cores, busy, follows) = (f.server_cores.get(), f.server_busy_percent.get(), f.server_follows_per_core.get());
    let (read, share) = (f.log_read_by_all.get(), f.server_follow_percent.get());
    let carries = sheet.put(
        "messages of a log that its servers can follow",
        Unit::PerSecond,
        "cores × how busy × share for following × followed per core and second, at least 1; as many as there are where a server reads its own only",
        if read == 0 { "as many as there are".to_owned() } else { format!("{cores} × {busy} % × {share} % × {}", n(follows)) },
        if read == 0 { peak.max(1) } else { (cores * busy * share * follows / 10_000).max(1) },
    );
    let logs = sheet.put(
        "logs",
        Unit::Count,
        "the greater of partitions / partitions of one log at most and peak / messages that can be followed; several logs share nothing",
        format!("max({} / {}, {} / {})", n(count), n(f.partition_max.get()), n(peak), n(carries)),
        count.div_ceil(f.partition_max.get()).max(peak.div_ceil(carries)),
    );
    peak.div_ceil(logs)
}

/// Who reads the log.
struct Readers {
    servers: u128,
    /// The peak of one log.
    each_log: u128,
}

/// The log's storage; its brokers.
fn log(sheet: &mut Sheet, target: &Target, f: &Figures, peak: u128, readers: Readers) -> u128 {
    let (records, overhead, replicas) = (f.log_records.get(), f.log_overhead_bytes.get(), target.replication());
    let message = sheet.put(
        "bytes of a message in the log",
        Unit::Bytes,
        "records × (message + overhead of a record)",
        format!("{records} × ({} + {})", b(target.message_bytes()), b(overhead)),
        records * (target.message_bytes() + overhead),
    );
    let (day, days) = (target.messages_per_day(), target.retention_days());
    let once = sheet.put(
        "storage of the log, before replication",
        Unit::Bytes,
        "messages a day × days × bytes of a message in the log",
        format!("{} × {days} × {}", n(day), b(message)),
        day * days * message,
    );
    let stored = sheet.put(
        "storage of the log, replicated",
        Unit::Bytes,
        "storage before replication × replication",
        format!("{} × {replicas}", b(once)),
        once * replicas,
    );
    let write = f.broker_write_bytes.get();
    let by_messages = sheet.put(
        "brokers by throughput",
        Unit::Count,
        "peak × bytes of a message in the log × replication / bytes that a broker writes, rounded up",
        format!("{} × {} × {replicas} / {}", n(peak), b(message), Unit::BytesPerSecond.show(write)),
        (peak * message * replicas).div_ceil(write),
    );
    let (disk, full) = (f.broker_disk.get(), f.broker_disk_percent.get());
    let by_storage = sheet.put(
        "brokers by storage",
        Unit::Count,
        "storage replicated / (disk × how full), rounded up",
        format!("{} / ({} × {full} %)", b(stored), b(disk)),
        (stored * 100).div_ceil(disk * full),
    );
    let (read, out) = (f.log_read_by_all.get(), f.broker_read_bytes.get());
    let (numbers, read) = if read == 0 {
        (n(peak), peak)
    } else {
        (format!("{} × {}", n(readers.each_log), n(readers.servers)), readers.each_log * readers.servers)
    };
    let by_reading = sheet.put(
        "brokers by reading",
        Unit::Count,
        "peak of a log × servers, or the peak where a server reads its own only, × bytes of a message in the log / bytes read from a broker",
        format!("{numbers} × {} / {}", b(message), Unit::BytesPerSecond.show(out)),
        (read * message).div_ceil(out),
    );
    let most = by_messages.max(by_storage).max(by_reading).max(replicas);
    let (numbers, count) = spared(target, most, target.largest());
    let how = format!("max({}, {}, {}, {replicas})", n(by_messages), n(by_storage), n(by_reading));
    sheet.put(
        "brokers",
        Unit::Count,
        "the greatest of these and the replication, with the spare",
        numbers.replacen('#', &how, 1),
        count,
    )
}

/// Servers of Postgres. The archive may follow the log by hours, so it is sized by the average.
fn archive(sheet: &mut Sheet, target: &Target, f: &Figures) -> u128 {
    let (copies, overhead) = (f.archive_copies.get(), f.archive_overhead_bytes.get());
    let message = copies * target.message_bytes() + overhead;
    let (day, days) = (target.messages_per_day(), target.archive_days());
    let stored = sheet.put(
        "storage of the archive, before standbys",
        Unit::Bytes,
        "messages a day × days × (copies × message + overhead)",
        format!("{} × {days} × ({copies} × {} + {})", n(day), b(target.message_bytes()), b(overhead)),
        day * days * message,
    );
    let (rows, takes, busy) = (f.archive_rows.get(), f.archive_rows_per_second.get(), f.server_busy_percent.get());
    let average = day.div_ceil(SECONDS_A_DAY);
    let by_rows = sheet.put(
        "Postgres shards by rows (an estimate)",
        Unit::Count,
        "average × rows of a message / (rows per second × how busy), rounded up",
        format!("{} × {rows} / ({} × {busy} %)", n(average), n(takes)),
        (average * rows * 100).div_ceil(takes * busy),
    );
    let (disk, full) = (f.archive_disk.get(), f.broker_disk_percent.get());
    let by_storage = sheet.put(
        "Postgres shards by storage (an estimate)",
        Unit::Count,
        "storage of the archive / (disk × how full), rounded up",
        format!("{} / ({} × {full} %)", b(stored), b(disk)),
        (stored * 100).div_ceil(disk * full),
    );
    let each = f.archive_servers.get();
    sheet.put(
        "Postgres servers (an estimate)",
        Unit::Count,
        "the greater of both × servers of a shard, whose standbys are its spare",
        format!("max({}, {}) × {each}", n(by_rows), n(by_storage)),
        by_rows.max(by_storage) * each,
    )
}

/// Servers of Redis.
fn redis(sheet: &mut Sheet, target: &Target, f: &Figures, peak: u128) -> u128 {
    let (connections, bytes, memory) = (target.connections(), f.redis_connection_bytes.get(), f.redis_memory.get());
    let by_memory = sheet.put(
        "Redis shards by memory (an estimate)",
        Unit::Count,
        "connections × memory of a connection in Redis / half of a shard's memory, rounded up",
        format!("{} × {} / ({} × 50 %)", n(connections), b(bytes), b(memory)),
        (connections * bytes * 2).div_ceil(memory),
    );
    let (calls, every) = (f.redis_operations.get(), f.redis_renewal_seconds.get());
    let (answers, busy) = (f.redis_operations_per_second.get(), f.server_busy_percent.get());
    let by_calls = sheet.put(
        "Redis shards by calls (an estimate)",
        Unit::Count,
        "(peak × calls of a message + connections / seconds between renewals) / (calls per second × how busy), rounded up",
        format!("({} × {calls} + {} / {every}) / ({} × {busy} %)", n(peak), n(connections), n(answers)),
        ((peak * calls + connections.div_ceil(every)) * 100).div_ceil(answers * busy),
    );
    let each = f.redis_servers.get();
    sheet.put(
        "Redis servers (an estimate)",
        Unit::Count,
        "the greater of both × servers of a shard, whose replicas are its spare",
        format!("max({}, {}) × {each}", n(by_memory), n(by_calls)),
        by_memory.max(by_calls) * each,
    )
}
