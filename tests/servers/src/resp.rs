//! As much of the Redis protocol as a test needs to look at a server from outside. (redis.io/docs/latest/develop/reference/protocol-spec)

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A text, simple or bulk.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Several.
    Many(Vec<Reply>),
    /// The server refuses.
    Error(String),
}

impl Reply {
    /// As text; what is not has none.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }
}

pub(crate) async fn ask(port: u16, words: &[&str]) -> io::Result<Reply> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(out.as_bytes()).await?;
    Box::pin(read(&mut stream)).await
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "not a reply");
    let rest = line.get(1..).ok_or_else(strange)?.trim_end();
    let number = || rest.parse::<i64>().map_err(|_| strange());
    Ok(match line.as_bytes()[0] {
        b'+' => Reply::Text(rest.to_owned()),
        b'-' => Reply::Error(rest.to_owned()),
        b':' => Reply::Number(number()?),
        b'$' => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(size) => {
                let mut bytes = vec![0; size + 2];
                stream.read_exact(&mut bytes).await?;
                Reply::Text(String::from_utf8_lossy(&bytes[..size]).into_owned())
            }
        },
        b'*' => {
            let mut many = Vec::new();
            for _ in 0..number()? {
                many.push(Box::pin(read(stream)).await?);
            }
            Reply::Many(many)
        }
        _ => return Err(strange()),
    })
}
