//! `heddle log partitions`: asks a running server into how many partitions the log is cut, or to cut it into more.

use std::io::Write as _;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::admin::AdminClient;
use crate::cli::{LogPartitionsArgs, Output};
use crate::failure::Failure;

/// The server answers within this.
const DEADLINE: Duration = Duration::from_secs(35);
/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(500);
/// How long it is looked for; what takes longer goes on all the same.
const PATIENCE: Duration = Duration::from_secs(600);
const PATH: &str = "/log/partitions";

/// Asks, waits until it is done, and says what stdout should show.
///
/// # Errors
/// If there is no server, no right to ask, or it cannot be.
pub async fn command(args: &LogPartitionsArgs) -> Result<String, Failure> {
    let client = args.server.client(DEADLINE)?;
    let Some(wanted) = args.partitions else {
        let has = ask(&client, Method::GET, Bytes::new()).await?;
        return Ok(shown(&has, args.output));
    };
    ask(&client, Method::POST, json!({ "partitions": wanted }).to_string().into()).await?;
    let done = tokio::time::timeout(PATIENCE, done(&client, wanted, args.output)).await;
    let has = done.map_err(|_| {
        Failure::new(format!(
            "after {} min the log is not cut into {wanted} partitions yet, and sends are refused: see how far the archive is behind with `heddle nodes`",
            PATIENCE.as_secs() / 60
        ))
    })?;
    Ok(shown(&has, args.output))
}

/// Waits until the server works with so many. It ends its connections meanwhile, the admin's too.
async fn done(client: &AdminClient, wanted: u32, output: Output) -> Value {
    let progress = |text: &str| {
        if output == Output::Text {
            let _ = writeln!(std::io::stderr(), "# {text}");
        }
    };
    progress("sends are refused until all that was accepted is worked on and archived");
    let mut there = true;
    loop {
        match ask(client, Method::GET, Bytes::new()).await {
            Ok(has) if has["partitions"] == wanted && has["under_way"].is_null() => return has,
            Ok(_) => there = true,
            Err(_) => {
                if std::mem::take(&mut there) {
                    progress("nodes start anew");
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ask(client: &AdminClient, method: Method, body: Bytes) -> Result<Value, Failure> {
    let answer = client.ask(method, PATH, body).await?;
    answer.map_err(|refusal| {
        Failure::new(format!("{} answered {}: {}", client.address(), refusal.status, refusal.detail))
    })
}

fn shown(has: &Value, output: Output) -> String {
    match (output, has["under_way"].as_u64()) {
        (Output::Json, _) => has.to_string(),
        (Output::Text, None) => format!("the log has {} partitions", has["partitions"]),
        (Output::Text, Some(wanted)) => {
            format!("the log has {} partitions, and is being cut into {wanted}", has["partitions"])
        }
    }
}
