//! A broker that forgets, like one that has just started: between a real one and its clients.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Kafka's numbers of two questions, and versions of the first from which bodies have tags, topics have ids, nobody is told what one may do with the
/// cluster, and the whole may be an error.
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const TAGS: i16 = 9;
const IDS: i16 = 10;
const NO_CLUSTER: i16 = 11;
const ERROR: i16 = 13;
/// Kafka's error for a partition that nobody leads.
const LEADER_NOT_AVAILABLE: i16 = 5;

/// Hands questions on to a broker on 127.0.0.1, and names itself where the broker would name itself. Questions for metadata it answers alone: it is the
/// only broker; or, while it forgets, it knows of none, and nobody leads a partition.
#[derive(Debug)]
pub struct Forgetful {
    port: u16,
    known: Arc<Known>,
}

#[derive(Debug)]
struct Known {
    node: i32,
    /// Names, and how many partitions they have.
    topics: Vec<(String, i32)>,
    forgets: AtomicBool,
    clients: Mutex<Vec<TcpStream>>,
}

impl Forgetful {
    /// Before the broker of that address and number, which has these topics, or will: their names, at most 126 bytes each, and their partitions, at most 126.
    ///
    /// # Errors
    /// No port is free.
    pub fn before(broker: String, node: i32, topics: Vec<(String, i32)>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let known = Arc::new(Known { node, topics, forgets: AtomicBool::new(false), clients: Mutex::default() });
        let knows = Arc::clone(&known);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (broker, known) = (broker.clone(), Arc::clone(&knows));
                std::thread::spawn(move || {
                    // Until either side ends.
                    drop(serve(client, &broker, port, &known));
                });
            }
        });
        Ok(Self { port, known })
    }

    /// For clients.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it knows of no broker, or of itself again.
    pub fn forget(&self, forgets: bool) {
        self.known.forgets.store(forgets, Ordering::SeqCst);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for client in self.known.clients.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have ended.
            drop(client.shutdown(Shutdown::Both));
        }
    }
}

fn serve(mut client: TcpStream, broker: &str, port: u16, known: &Known) -> std::io::Result<()> {
    let mut broker = TcpStream::connect(broker)?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    known.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client.try_clone()?);
    loop {
        let question = framed(&mut client)?;
        let number = |at: usize| i16::from_be_bytes([question[at], question[at + 1]]);
        let (kind, version) = (number(0), number(2));
        let answer = if kind == METADATA {
            metadata(version, &question[4..], port, known)
        } else {
            send(&mut broker, &question)?;
            let mut answer = framed(&mut broker)?;
            if kind == FIND_COORDINATOR {
                // Its last field.
                let port_at = answer.len() - 4;
                answer[port_at..].copy_from_slice(&i32::from(port).to_be_bytes());
            }
            answer
        };
        send(&mut client, &answer)?;
    }
}

fn send(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], frame].concat())
}

fn framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// An answer, field by field as Kafka's protocol guide has them.
fn metadata(version: i16, question: &[u8], port: u16, known: &Known) -> Vec<u8> {
    assert!(version >= TAGS, "metadata is asked for in version {version}");
    let forgets = known.forgets.load(Ordering::SeqCst);
    // Those that it names; or all, if it names none.
    let named = |topic: &str| question.windows(topic.len()).any(|bytes| bytes == topic.as_bytes());
    let all = !known.topics.iter().any(|(topic, _)| named(topic));
    let topics: Vec<_> = known.topics.iter().filter(|(topic, _)| all || named(topic)).collect();
    // It begins with the number that the answer must have.
    let mut answer = question[..4].to_vec();
    let mut put = |bytes: &[u8]| answer.extend_from_slice(bytes);
    // Lengths are one more than they are, and below 128 a byte; the length 0 is of what is not there.
    let short = |length: usize| [u8::try_from(length + 1).ok().filter(|byte| *byte < 128).expect("a short one")];
    const NONE: [u8; 1] = [0];
    const NO_TAGS: [u8; 1] = [0];
    put(&NO_TAGS);
    put(&0_i32.to_be_bytes());
    if forgets {
        put(&short(0));
    } else {
        put(&short(1));
        put(&known.node.to_be_bytes());
        put(&short(9));
        put(b"127.0.0.1");
        put(&i32::from(port).to_be_bytes());
        put(&NONE);
        put(&NO_TAGS);
    }
    put(&NONE);
    put(&(if forgets { -1 } else { known.node }).to_be_bytes());
    put(&short(topics.len()));
    for (topic, partitions) in topics {
        put(&0_i16.to_be_bytes());
        put(&short(topic.len()));
        put(topic.as_bytes());
        if version >= IDS {
            // Without one its name is used.
            put(&[0; 16]);
        }
        put(&[0]);
        put(&short(usize::try_from(*partitions).unwrap_or(usize::MAX)));
        for partition in 0..*partitions {
            put(&(if forgets { LEADER_NOT_AVAILABLE } else { 0 }).to_be_bytes());
            put(&partition.to_be_bytes());
            put(&(if forgets { -1 } else { known.node }).to_be_bytes());
            put(&0_i32.to_be_bytes());
            for _ in ["replicas", "in sync"] {
                put(&short(1));
                put(&known.node.to_be_bytes());
            }
            put(&short(0));
            put(&NO_TAGS);
        }
        put(&i32::MIN.to_be_bytes());
        put(&NO_TAGS);
    }
    if version < NO_CLUSTER {
        put(&i32::MIN.to_be_bytes());
    }
    if version >= ERROR {
        put(&0_i16.to_be_bytes());
    }
    put(&NO_TAGS);
    answer
}
