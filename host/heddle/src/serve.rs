//! `heddle dev` and `heddle serve`: from flags to a server that runs until it is told to stop.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use heddle_gateway::Reloaded;
use heddle_model::{Clock as _, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::again::Again;
use crate::cli::{DevArgs, Output, PolicyFlag, ServeArgs};
use crate::config::{Config, LogBackend, Sources};
use crate::failure::Failure;
use crate::ready::{Ready, RunFile, program};
use crate::reload::Reloader;
use crate::server::sound::startable;
use crate::server::{Server, Terms, install_telemetry};
use crate::token::{DEVELOPMENT_ADMIN_TOKEN, DEVELOPMENT_SECRET, DEVELOPMENT_TTL_S, mint};

/// Users of `heddle dev` who get a token at start.
const DEVELOPMENT_USERS: [&str; 2] = ["alice", "bob"];
/// Work that holds the process back when it ends by a second signal.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// How a server was asked to be.
pub(crate) struct Wish {
    /// Where the configuration was read from.
    sources: Sources,
    pub(crate) config: Config,
    pub(crate) terms: Terms,
    output: Output,
    bot: bool,
}

/// `heddle dev`.
///
/// # Errors
/// What keeps it from starting.
pub fn dev(args: &DevArgs) -> Result<(), Failure> {
    for (flag, address) in [("--listen", args.listen), ("--admin", args.admin)] {
        if !address.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "{flag} {address} is not a loopback address, and the secret of `heddle dev` is published: use {flag} 127.0.0.1:{}, or `heddle serve --config FILE` with a secret of your own",
                address.port()
            )));
        }
    }
    let mut sources = Sources {
        presets: vec![
            ("auth.secret", DEVELOPMENT_SECRET.to_owned()),
            ("auth.first_frame", "true".to_owned()),
            ("gateway.loopback_exempt", "true".to_owned()),
            ("gateway.sockets_per_ip", "4096".to_owned()),
            ("admin.token", DEVELOPMENT_ADMIN_TOKEN.to_owned()),
            ("policies.record_one_in", "1".to_owned()),
            ("policies.record_bodies", "true".to_owned()),
            ("telemetry.format", "text".to_owned()),
            ("telemetry.filter", "warn".to_owned()),
        ],
        variables: Sources::environment(),
        assignments: args.set.clone(),
        ..Sources::default()
    };
    sources.flags.extend([
        ("node.data_dir", args.data.to_string_lossy().into_owned(), "flag --data"),
        ("gateway.listen", args.listen.to_string(), "flag --listen"),
        ("admin.listen", args.admin.to_string(), "flag --admin"),
        // Tokens of `dev` are signed with it, whatever the environment says.
        ("auth.secret", DEVELOPMENT_SECRET.to_owned(), "heddle dev"),
    ]);
    sources.chains.extend(chains(&args.policies));
    let config = startable(&sources, true)?;
    let terms = Terms { admin_token: config.admin.token.clone(), dev: true };
    run(Wish { sources, config, terms, output: args.output, bot: !args.no_bot })
}

/// `heddle serve`.
///
/// # Errors
/// What keeps it from starting.
pub fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let sources = Sources {
        file: Some(args.config.clone()),
        variables: Sources::environment(),
        assignments: args.set.clone(),
        chains: chains(&args.policies),
        ..Sources::default()
    };
    let config = startable(&sources, false)?;
    let admin_token = match config.admin.token.as_str() {
        "" => once_token()?,
        token => token.to_owned(),
    };
    run(Wish { sources, config, terms: Terms { admin_token, dev: false }, output: args.output, bot: false })
}

/// One flag a plugin; those of a hook replace its chain.
fn chains(flags: &[PolicyFlag]) -> Vec<(&'static str, Vec<String>)> {
    let mut chains: Vec<(&'static str, Vec<String>)> = Vec::new();
    for flag in flags {
        match chains.iter_mut().find(|(key, _)| *key == flag.key) {
            Some((_, files)) => files.push(flag.file.clone()),
            None => chains.push((flag.key, vec![flag.file.clone()])),
        }
    }
    chains
}

/// An admin token for this run only: whoever may read `run.json` may use it.
fn once_token() -> Result<String, Failure> {
    use std::io::Read as _;
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Failure::new(format!("/dev/urandom cannot be read: {error}; set admin.token")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn run(wish: Wish) -> Result<(), Failure> {
    let clock = SystemClock::new();
    let metrics = install_telemetry(&wish.config)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if wish.config.node.worker_threads > 0 {
        builder.worker_threads(usize::try_from(wish.config.node.worker_threads).unwrap_or(usize::MAX));
    }
    let runtime = builder
        .enable_all()
        .thread_name("heddle")
        .build()
        .map_err(|error| Failure::new(format!("no runtime: {error}")))?;
    let done = runtime.block_on(async {
        // Before anything is open: a signal during a long recovery must not find nobody at home.
        let mut stop = Stop::listen()?;
        let reloader = Arc::new(Reloader::new(wish.sources.clone(), wish.terms.clone(), wish.config.clone()));
        let mut server = tokio::select! {
            built = Server::build(&wish.config, &wish.terms, metrics.clone(), Arc::clone(&reloader)) => built?,
            () = stop.asked() => return Ok(()),
        };
        if wish.bot {
            server.introduce(&DEVELOPMENT_USERS).await?;
        }
        server.serve();
        let (ready, run_file) = announce(&wish, &server, clock.monotonic())?;
        say(&match wish.output {
            Output::Json => ready.json(),
            Output::Text => ready.screen(&program()),
        })?;
        let bot = wish.bot.then(|| {
            let token = ready.tokens.iter().find(|(user, _)| user == "bob").map(|(_, token)| token.clone());
            let config = |address| heddle_client::ClientConfig::new(address, token.unwrap_or_default(), "heddle-bot");
            run_file.client_address().map(|address| tokio::spawn(heddle_client::bot::run(config(address))))
        });
        let bot = bot.transpose()?;
        let end = Again::new(&wish, &ready, metrics, reloader).run(server, &mut stop).await;
        if let Some(bot) = bot {
            bot.abort();
        }
        end
    });
    // A database or a disk that hangs must not hold the process.
    runtime.shutdown_timeout(LAST_BREATH);
    done
}

/// Writes `run.json`, and what to say of it.
pub(crate) fn announce(wish: &Wish, server: &Server, took: Duration) -> Result<(Ready, RunFile), Failure> {
    let (generation, policies) = server.generation();
    let mut tokens = Vec::new();
    if wish.terms.dev {
        for user in DEVELOPMENT_USERS {
            tokens.push((user.to_owned(), mint(&wish.config, user, None, DEVELOPMENT_TTL_S)?));
        }
    }
    let certificates = server.gateway().certificates();
    let served = |section| certificates.iter().any(|(of, _)| *of == section);
    let ready = Ready {
        client: server.gateway().client_address(),
        admin: server.gateway().admin_address(),
        tokens,
        admin_token: wish.terms.admin_token.clone(),
        generation,
        policies,
        took,
        data: wish.config.node.data_dir.clone(),
        bot: wish.bot,
        tls: (served("gateway"), served("admin")),
    };
    let mut run_file = RunFile {
        client: ready.client,
        admin: ready.admin,
        admin_token: ready.admin_token.clone(),
        pid: std::process::id(),
        client_tls: ready.tls.0,
        admin_tls: ready.tls.1,
        certificates: Vec::new(),
    };
    run_file.serving(certificates.iter().map(|(_, leaf)| leaf.as_slice()));
    run_file.write(&ready.data)?;
    Ok((ready, run_file))
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| Failure::new(format!("stdout: {error}")))
}

/// Why a server ended in order.
pub(crate) enum End {
    /// It was asked to.
    Stopped,
    /// The log is cut into so many partitions: it must be built anew.
    Cut(u32),
    /// What the kernel holds after a failed sync is not known: it must be built anew, from disk.
    LogFailed(String),
}

impl End {
    /// For the line that says that clients are sent away.
    fn why(&self) -> String {
        match self {
            Self::Stopped => String::new(),
            Self::Cut(partitions) => format!("the log was cut into {partitions} partitions; "),
            Self::LogFailed(reason) => format!("the log is closed: {reason}; sends are refused; "),
        }
    }
}

/// Where everything acknowledged is.
pub(crate) fn kept(config: &Config) -> String {
    match config.log.backend {
        LogBackend::Embedded => format!("on disk in {}", config.node.data_dir.display()),
        LogBackend::Kafka => format!("with the brokers at {}", config.kafka.brokers),
    }
}

pub(crate) async fn until_stopped(wish: &Wish, server: Server, stop: &mut Stop) -> End {
    let mut failed = server.log_failed();
    let kept = kept(&wish.config);
    let asked = async {
        while stop.told().await == Told::Reload {
            match server.gateway().reload("SIGHUP").await {
                Ok(reloaded) => tell(wish, &reloaded_text(&reloaded)),
                Err(wrong) => tell(wish, &format!("nothing was reloaded. {wrong}")),
            }
        }
    };
    let end = tokio::select! {
        () = asked => End::Stopped,
        partitions = server.cut_anew() => End::Cut(partitions),
        reason = failed.wait_for(Option::is_some) => {
            let reason = reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "it ended".to_owned());
            End::LogFailed(reason)
        }
    };
    let why = end.why();
    tell(
        wish,
        &format!(
            "{why}draining: clients are sent away at a pace and come back to where they were. Again to stop at once."
        ),
    );
    RunFile::remove(&wish.config.node.data_dir);
    let drained = tokio::select! {
        drained = server.drain() => drained,
        () = stop.asked() => {
            tell(wish, &format!("stopped at once. Everything acknowledged is {kept}; the next start recovers."));
            return End::Stopped;
        }
    };
    if !matches!(end, End::Stopped) {
        return end;
    }
    let left = match drained.left {
        0 => String::new(),
        left => format!(" ({left} did not go in time)"),
    };
    let connections = match drained.connections {
        1 => "1 connection was".to_owned(),
        many => format!("{many} connections were"),
    };
    tell(
        wish,
        &format!(
            "stopped. {connections} sent away{left}. Every accepted message is {kept}; devices resume from their position."
        ),
    );
    end
}

fn reloaded_text(reloaded: &Reloaded) -> String {
    let lines = |what: &str, keys: &[String]| keys.iter().map(|key| format!("\n  {what}: {key}")).collect::<String>();
    let (applied, waiting) = (lines("took effect", &reloaded.applied), lines("needs a restart", &reloaded.waiting));
    let warnings = lines("warning", &reloaded.warnings);
    format!("the configuration was read again, key files too{applied}{waiting}{warnings}")
}

/// On stderr: stdout is for what programs read.
pub(crate) fn tell(wish: &Wish, text: &str) {
    if wish.config.telemetry.format == crate::config::LogFormat::Json {
        tracing::info!("{text}");
    } else {
        let _ = writeln!(std::io::stderr(), "# {text}");
    }
}

/// SIGINT and SIGTERM; SIGHUP.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What a signal says.
#[derive(PartialEq, Eq)]
enum Told {
    Stop,
    Reload,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be taken: {error}")));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    async fn told(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// The next that says stop.
    pub(crate) async fn asked(&mut self) {
        while self.told().await != Told::Stop {}
    }
}
