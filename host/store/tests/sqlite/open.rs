//! Files that are no store, stores that come back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use heddle_model::DeviceId;
use heddle_store::{ArchiveBatch, DeadLetter, DeviceRow, OpenError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::fixture::*;
use crate::{dump, open, try_open};

/// The error of a path that does not open; what it says to do is in it.
async fn refusal(path: &Path, remedy: &str) -> OpenError {
    let error = try_open(path).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(remedy), "{text:?} does not say {remedy:?}");
    error
}

async fn execute(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_something_else_is_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let texts: [&[u8]; 3] = [b"#", b"a letter to nobody\n", &[0xa5; 5000]];
    for text in texts {
        std::fs::write(&path, text).unwrap();
        let error = refusal(&path, "give another data directory").await;
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), text);
    }
    std::fs::remove_file(&path).unwrap();
    execute(&path, "CREATE TABLE accounts (name TEXT); INSERT INTO accounts VALUES ('ann')").await;
    let before = std::fs::read(&path).unwrap();
    let error = refusal(&path, "give another data directory").await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    open(&path).await.close().await;
    execute(&path, "PRAGMA user_version = 1000").await;
    let error = refusal(&path, "run a newer heddle").await;
    let OpenError::Newer { found: 1_000, known, .. } = error else { panic!("{error}") };
    execute(&path, &format!("PRAGMA user_version = {known}")).await;
    open(&path).await.close().await;
}

/// Every schema that a release had, oldest first.
fn migrations() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

/// Gives a database of an older schema the rows that another has in the columns that both know.
async fn copy(from: &Path, to: &Path) {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(to)).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("ATTACH '{}' AS newest", from.display())))).await.unwrap();
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, group_concat(c.name) FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' GROUP BY t.name",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for (table, columns) in columns {
        let sql = format!("INSERT OR REPLACE INTO {table} ({columns}) SELECT {columns} FROM newest.{table}");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_store_of_any_older_schema_is_brought_up_to_date_with_all_that_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let newest = directory.path().join("newest.db");
    let store = open(&newest).await;
    let ports = store.store();
    let mut batch = ArchiveBatch::default();
    direct(&mut batch, 1, 1, 1);
    batch.groups.push(made("weavers", 2, &["alice", "bob"]));
    batch.cursors.push(cursor(home("bob"), 1));
    ports.archive.write(batch).await.unwrap();
    ports.directory.see_user(&user("alice"), 5).await.unwrap();
    let phone = DeviceRow::new(DeviceId::new("phone").unwrap(), at(7), 9, 0);
    ports.devices.save_devices(vec![(user("alice"), phone)], 20).await.unwrap();
    ports.devices.save_read(&user("bob"), &conversation("user:alice"), at(1)).await.unwrap();
    store.close().await;
    execute(&newest, "INSERT INTO audit (at, who, what, why, detail) VALUES (1, 'me', 'deploy', '', '{}')").await;
    let wanted = dump(&newest).await;
    assert!(wanted.len() > 8, "{wanted:?}");

    let migrations = migrations();
    assert!(migrations.len() >= 7);
    for version in 1..migrations.len() {
        let older = directory.path().join(format!("{version}.db"));
        execute(&older, &migrations[..version].concat()).await;
        copy(&newest, &older).await;
        // Twice: the second time there is nothing to do.
        for _ in 0..2 {
            open(&older).await.close().await;
            assert_eq!(dump(&older).await, wanted, "from schema {version}");
        }
    }
}

#[tokio::test]
async fn a_store_in_use_names_the_process_and_is_free_when_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path).await;
    let error = refusal(&path, &format!("in use by process {}, stop that", std::process::id())).await;
    assert!(matches!(error, OpenError::InUse { pid: Some(_), .. }), "{error}");
    store.close().await;
    open(&path).await.close().await;
}

/// A process that was just forked holds the lock file as well until it runs its program: a close that only closed the file left the lock taken.
#[test]
fn a_closed_store_is_free_while_other_processes_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                std::process::Command::new("true").status().unwrap();
            }
        });
        crate::run(async {
            let mut refused = None;
            for _ in 0..100 {
                match try_open(&path).await {
                    Ok(store) => store.close().await,
                    Err(error) => refused = Some(error),
                }
            }
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            assert!(refused.is_none(), "{refused:?}");
        });
    });
}

#[tokio::test]
async fn a_directory_in_the_place_of_a_file_and_a_file_in_the_place_of_a_directory_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    std::fs::create_dir(&path).unwrap();
    let error = refusal(&path, "it is a directory").await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    let file = directory.path().join("file");
    std::fs::write(&file, "something").unwrap();
    for path in [file.join("store.db"), file.join("below/store.db")] {
        let error = refusal(&path, "give another data directory").await;
        assert!(matches!(&error, OpenError::NoDirectory { path } if *path == file), "{error}");
    }
}

#[tokio::test]
async fn a_closed_directory_says_who_may_open_it() {
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(closed.join("probe"), []).is_ok() {
        println!("skipped: this user may write into every directory");
        return;
    }
    let error = refusal(&closed.join("store.db"), "give this user the right to write").await;
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_store_says_so_when_it_opens_or_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path).await;
    let mut batch = ArchiveBatch::default();
    for id in 1..500 {
        direct(&mut batch, id, id, id);
    }
    store.store().archive.write(batch).await.unwrap();
    store.close().await;
    let whole = std::fs::read(&path).unwrap();
    let mut head = whole.clone();
    head[100..200].fill(0xa5);
    for (case, bytes) in [("cut", &whole[..whole.len() / 2]), ("first page", &head)] {
        std::fs::write(&path, bytes).unwrap();
        match try_open(&path).await {
            Err(error) => assert!(error.to_string().contains("restore a backup"), "{case}: {error}"),
            Ok(store) => {
                let read = store.store().archive.stream(&user("bob"), home("bob"), at(0), 1_000).await;
                assert!(read.is_err(), "{case}: half of the stream reads as if it were all");
                store.close().await;
            }
        }
    }
}

#[tokio::test]
async fn everything_is_there_when_a_store_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let letter = DeadLetter {
        partition: home("bob"),
        position: at(4),
        by: "worker",
        error: "it does not decode".to_owned(),
        at: 1_234,
        bytes: b"\x00broken".as_slice().into(),
    };
    let mut batch = ArchiveBatch {
        groups: vec![made("g", 1, &["alice", "bob"])],
        dead: vec![letter],
        cursors: vec![cursor(home("bob"), 90)],
        users: vec![(user("alice"), 3)],
        ..ArchiveBatch::default()
    };
    for id in 1..9 {
        direct(&mut batch, id * 10, id, id);
        pulled(&mut batch, "g", id * 10, "alice", 100 + id);
    }
    let store = open(&path).await;
    store.store().archive.write(batch).await.unwrap();
    store.store().directory.set_mute(&user("bob"), &conversation("group:g"), true).await.unwrap();
    store.store().epochs.epoch([7; 16], 16, &[]).await.unwrap();
    let before = dump(&path).await;
    let letters: Vec<_> = before.iter().filter(|row| row.starts_with("dead_letters: ")).collect();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let parts = ["position 4", "given_up_by 'worker'", "error 'it does not decode'", "at 1234", "X'0062726F6B656E'"];
    assert!(parts.iter().all(|part| letters[0].contains(part)), "{letters:?}");
    for _ in 0..3 {
        store.close().await;
        let store = open(&path).await;
        assert_eq!(dump(&path).await, before);
        assert_eq!(store.store().archive.stream(&user("bob"), home("bob"), at(0), 99).await.unwrap().rows.len(), 8);
        store.close().await;
    }
    let late = store.store().archive.write(ArchiveBatch::default()).await;
    assert!(late.is_err(), "what is handed in after the close is not silently dropped");
}
