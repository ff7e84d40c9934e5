//! Apache Kafka: one broker that is its own controller, or three that are it together.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::Signal;

use crate::Missing;
use crate::guard::Guard;
use crate::process::{find, free_port};

/// Ports are found free and taken a moment later: somebody may be quicker.
const STARTS: usize = 3;
/// Any will do: each broker has a directory of its own.
const CLUSTER: &str = "aGVkZGxlLXRlc3RzLWthZg";

/// One broker. It keeps what it has over a restart, and takes it along when it is dropped.
#[derive(Debug)]
pub struct Kafka {
    directory: PathBuf,
    lib: PathBuf,
    port: u16,
    guard: Option<Guard>,
}

impl Kafka {
    /// One for all tests of this process; it ends with the process.
    ///
    /// # Errors
    /// Java or Kafka's files are not here, or it does not start.
    pub fn shared() -> Result<&'static Self, Missing> {
        static SHARED: OnceLock<Result<Kafka, Missing>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map_err(Clone::clone)
    }

    /// One of its own, which a test may stop, kill and pause. It ends when it is dropped.
    ///
    /// # Errors
    /// Java or Kafka's files are not here, or it does not start.
    pub fn start() -> Result<Self, Missing> {
        let lib = lib()?;
        let mut last = Missing("Kafka was not started".to_owned());
        for _ in 0..STARTS {
            match Self::of_several(&lib, 1, &[free_port()]) {
                Ok(broker) => return Ok(broker),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Three of one cluster, any of which a test may stop, kill and pause. They end when they are dropped.
    ///
    /// # Errors
    /// Java or Kafka's files are not here, or they do not start.
    pub fn three() -> Result<Vec<Self>, Missing> {
        let lib = lib()?;
        let mut last = Missing("Kafka was not started".to_owned());
        for _ in 0..STARTS {
            let controllers = [free_port(), free_port(), free_port()];
            // None is ready before the second has come.
            let started: Vec<Result<Self, Missing>> = std::thread::scope(|scope| {
                let start = |number| Self::of_several(&lib, number, &controllers);
                let threads: Vec<_> =
                    (1..=controllers.len()).map(|number| scope.spawn(move || start(number))).collect();
                let ended = || Missing("Kafka: a start ended early".to_owned());
                threads.into_iter().map(|thread| thread.join().map_err(|_| ended())?).collect()
            });
            match started.into_iter().collect() {
                Ok(brokers) => return Ok(brokers),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn of_several(lib: &Path, number: usize, controllers: &[u16]) -> Result<Self, Missing> {
        let directory = tempfile::Builder::new().prefix("heddle-kafka-").tempdir();
        let directory = directory.map_err(|error| Missing(format!("Kafka: no directory: {error}")))?;
        let mut broker =
            Self { directory: directory.path().to_owned(), lib: lib.to_owned(), port: free_port(), guard: None };
        broker.configure(number, controllers)?;
        broker.launch()?;
        // Its guard removes it.
        let _ = directory.keep();
        Ok(broker)
    }

    /// As the broker of that number, from 1, of as many as there are controllers.
    fn configure(&self, number: usize, controllers: &[u16]) -> Result<(), Missing> {
        let (port, dir, copies) = (self.port, self.directory.display(), controllers.len());
        let controller = controllers[number - 1];
        let voters: Vec<_> =
            controllers.iter().zip(1..).map(|(port, number)| format!("{number}@127.0.0.1:{port}")).collect();
        let voters = voters.join(",");
        let properties = format!(
            "process.roles=broker,controller\nnode.id={number}\ncontroller.quorum.voters={voters}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={dir}/data\nauto.create.topics.enable=false\n\
             offsets.topic.replication.factor={copies}\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\n\
             broker.session.timeout.ms=1000\nbroker.heartbeat.interval.ms=200\n"
        );
        let written = std::fs::write(self.directory.join("server.properties"), properties);
        written.map_err(|error| Missing(format!("Kafka: {error}")))
    }

    /// A Java machine without what makes it slow to start.
    fn java(&self) -> Vec<String> {
        let classes = format!("{}/*", self.lib.display());
        let words = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &classes];
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn launch(&mut self) -> Result<(), Missing> {
        let properties = self.directory.join("server.properties").display().to_string();
        let ready = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}'", self.port);
        let mut server = vec!["sh".to_owned(), "-c".to_owned()];
        // The directory is made ready once; then the broker takes the shell's place.
        let format = format!("kafka.tools.StorageTool format -t {CLUSTER} -g -c \"$0\"");
        let run = "kafka.Kafka \"$0\"";
        let java: Vec<String> = self.java().iter().map(|word| format!("'{word}'")).collect();
        let java = java.join(" ");
        server.push(format!("{java} {format} && exec {java} {run}"));
        server.push(properties);
        self.guard = Some(Guard::start(&self.directory, &ready, "TERM", &server)?);
        Ok(())
    }

    /// For a client.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Which Kafka it is, by the name of its file: brokers do not tell.
    #[must_use]
    pub fn version(&self) -> String {
        version(&self.lib).unwrap_or_default()
    }

    /// Kills it, as a crash would, and keeps what it has on disk.
    pub fn kill(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.signal(Signal::KILL, true);
            guard.stop();
        }
    }

    /// Starts it again on the same port, with what it had.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.launch().expect("Kafka starts again");
    }

    /// Stops its time: connections stay, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets its time go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(guard) = &self.guard {
            guard.signal(signal, true);
        }
    }
}

/// The folder with Kafka's files.
fn lib() -> Result<PathBuf, Missing> {
    let mend = "run deploy/setup.sh test";
    if find("java").is_none() {
        return Err(Missing(format!("java is not installed: {mend}")));
    }
    let cache = std::env::var_os("HEDDLE_CACHE").map(PathBuf::from).or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        Some(base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?.join("heddle"))
    });
    let lib = cache.unwrap_or_default().join("kafka");
    match version(&lib) {
        Some(_) => Ok(lib),
        None => Err(Missing(format!("{} does not have Kafka: {mend}", lib.display()))),
    }
}

fn version(lib: &Path) -> Option<String> {
    let names = std::fs::read_dir(lib).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Some(name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?.to_owned())).next()
}

impl Drop for Kafka {
    /// At once: in order, one that lost the others of its cluster would try to say goodbye to them for minutes.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
