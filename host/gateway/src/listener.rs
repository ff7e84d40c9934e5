//! The accept loop, what comes before HTTP, HTTP, and the door to the WebSocket.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use heddle_protocol::{ErrorCode, Problem, WS_PATH};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::GatewayConfig;
use crate::core::Core;
use crate::limits::{AddressSlot, Per};
use crate::proxy::{client_ip, plain};
use crate::rest::problem;
use crate::stream::Stream;
use crate::upgrade::{self, SocketPermit};
use crate::{proxy_protocol, tls};

/// Bytes of a request's line and headers: a token of 5 KiB still gets its 401.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// The client's address, as the limits count it. In a request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientIp(pub(crate) IpAddr);

/// Which listener a socket came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Clients,
    Admin,
}

/// A listener's side of each of its sockets.
struct Listening {
    core: Arc<Core>,
    router: Router,
    door: Door,
    /// TLS handshakes that may be under way at once.
    handshakes: Semaphore,
    /// Sockets that wait for a request end with the listener.
    stop: CancellationToken,
}

/// Accepts until `stop`; each socket is a task of its own.
pub(crate) async fn accept(
    core: Arc<Core>,
    listener: TcpListener,
    router: Router,
    door: Door,
    stop: CancellationToken,
) {
    let handshakes = Semaphore::new(core.config().handshakes_max);
    let listening = Arc::new(Listening { core: Arc::clone(&core), router, door, handshakes, stop: stop.clone() });
    loop {
        let permit = Arc::clone(&core.sockets).acquire_owned();
        let next = async {
            let permit = if door == Door::Clients { permit.await.ok() } else { None };
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let listening = Arc::clone(&listening);
                core.tasks.spawn(async move { listening.serve(tcp, peer, Arc::new(permit)).await });
            }
            Err(error) => {
                // Out of file descriptors, mostly: others must close theirs first.
                tracing::warn!(%error, "a socket could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Listening {
    async fn serve(&self, tcp: TcpStream, peer: SocketAddr, permit: SocketPermit) {
        let core = &self.core;
        let deadline = core.deps.clock.monotonic() + Duration::from_millis(core.config().hello_ms);
        let ip = plain(peer.ip());
        let Some(slot) = enter(core, ip) else { return };
        core.figures.accepted.increment(1);
        core.figures.sockets.increment(1.0);
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps its delay");
        }
        // Boxed: what a handshake needs is not kept while the socket is open.
        if let Some((stream, ip, slot)) = Box::pin(self.open(tcp, ip, slot, deadline)).await {
            self.http(stream, ip, deadline, permit).await;
            drop(slot);
        }
        core.figures.sockets.decrement(1.0);
    }

    /// What comes before HTTP: a balancer's header, then TLS, both by the socket's deadline.
    async fn open(
        &self,
        mut tcp: TcpStream,
        mut ip: IpAddr,
        mut slot: AddressSlot,
        deadline: Duration,
    ) -> Option<(Stream, IpAddr, AddressSlot)> {
        let core = &self.core;
        let config = core.config().clone();
        let left = || deadline.saturating_sub(core.deps.clock.monotonic());
        // Who is no trusted proxy is not asked: it could say anything.
        if self.door == Door::Clients && config.proxy_protocol && trusted(&config, ip) {
            match proxy_protocol::client(&mut tcp, left()).await {
                Ok(Some(client)) => {
                    ip = client;
                    slot = enter(core, ip)?;
                }
                Ok(None) => {}
                Err(none) => {
                    core.figures.no_proxy_header(none.word());
                    tracing::debug!(proxy = %ip, why = none.word(), "a trusted proxy sent no PROXY header");
                    return None;
                }
            }
        }
        let certificate = match self.door {
            Door::Clients => &config.tls,
            Door::Admin => &config.admin_tls,
        };
        let Some(certificate) = certificate else { return Some((Stream::Plain(tcp), ip, slot)) };
        let shaken = tls::handshake(certificate, tcp, &self.handshakes, left()).await;
        core.figures.handshake(shaken.as_ref().map_or_else(|none| none.word(), |_| "done"));
        Some((shaken.ok()?, ip, slot))
    }

    async fn http(&self, stream: Stream, ip: IpAddr, deadline: Duration, permit: SocketPermit) {
        let Self { core, router, door, stop, .. } = self;
        let first = AtomicBool::new(true);
        let service = service_fn(|request: Request<Incoming>| {
            let (core, router, permit) = (Arc::clone(core), router.clone(), Arc::clone(&permit));
            // The socket's first request shares the socket's deadline, later ones have their own.
            let later = core.deps.clock.monotonic() + Duration::from_millis(core.config().hello_ms);
            let deadline = if first.swap(false, Ordering::Relaxed) { deadline } else { later };
            async move { Ok::<Response, Infallible>(answer(core, request, router, *door, ip, deadline, permit).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(deadline.saturating_sub(core.deps.clock.monotonic()))
            .max_buf_size(HEADER_BYTES_MAX)
            .half_close(false);
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a socket ended early");
        }
    }
}

fn trusted(config: &GatewayConfig, ip: IpAddr) -> bool {
    config.trusted_proxies.iter().any(|network| network.contains(ip))
}

/// Counts one more socket of that address; none if it has too many.
fn enter(core: &Core, ip: IpAddr) -> Option<AddressSlot> {
    let config = core.config();
    let unlimited = trusted(&config, ip) || exempt(core, ip);
    core.counts.enter(Per::Socket, ip, if unlimited { u32::MAX } else { config.sockets_per_ip_max })
}

/// Does the limit by address not hold for this one?
pub(crate) fn exempt(core: &Core, ip: IpAddr) -> bool {
    core.config().loopback_exempt && ip.is_loopback()
}

async fn answer(
    core: Arc<Core>,
    mut request: Request<Incoming>,
    router: Router,
    door: Door,
    peer: IpAddr,
    deadline: Duration,
    permit: SocketPermit,
) -> Response {
    let ip = client_ip(peer, request.headers(), &core.config().trusted_proxies);
    if door == Door::Clients && request.uri().path() == WS_PATH {
        return upgrade::upgrade(core, request, ip, deadline, permit).await.unwrap_or_else(|refused| *refused);
    }
    let origin = allowed_origin(&core, request.headers());
    if let (Some(origin), &Method::OPTIONS) = (&origin, request.method()) {
        return preflight(origin);
    }
    request.extensions_mut().insert(ClientIp(ip));
    let call = router.oneshot(request.map(Body::new));
    let most_ms = match door {
        Door::Clients => core.config().rest_timeout_ms,
        Door::Admin => core.config().admin_timeout_ms,
    };
    let mut response = match tokio::time::timeout(Duration::from_millis(most_ms), call).await {
        Ok(Ok(response)) => response,
        Err(_) => problem(Problem::new(ErrorCode::Unavailable, "the request took too long: send it again")),
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
    response
}

fn allowed_origin(core: &Core, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let text = origin.to_str().ok()?;
    // The page /try of `heddle dev` stands on the admin listener, whose port is known only once it is bound.
    let local = || {
        let pages = ["http://127.0.0.1:", "http://localhost:", "https://127.0.0.1:", "https://localhost:"];
        core.config().dev.is_some() && pages.iter().any(|it| text.starts_with(it))
    };
    (core.config().allowed_origins.iter().any(|allowed| allowed == text) || local()).then(|| origin.clone())
}

fn preflight(origin: &HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    response
}
