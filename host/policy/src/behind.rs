//! A change of the policy set costs milliseconds of checking, hashing and writing down: they are not taken from threads that serve.

use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::policies::Policies;
use crate::{ChangeError, Changed, Request};

/// Behind everybody who serves, beside the compiler.
const NICENESS: i32 = 10;

impl Policies {
    /// As [`Policies::change`], on a thread of its own that comes after those that serve. It goes on when whoever asked has gone.
    ///
    /// # Errors
    /// As [`Policies::change`]; or the machine gives no thread.
    pub async fn change_behind(&self, request: Request) -> Result<Changed, ChangeError> {
        let (policies, runtime) = (self.clone(), Handle::current());
        let (done, answer) = oneshot::channel();
        let run = move || {
            // On Linux this is about the calling thread alone. Without it the thread competes, nothing else.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            // Who asked may have gone.
            let _ = done.send(runtime.block_on(policies.change(request)));
        };
        let refused = |problem: String| ChangeError::Refused { problems: vec![problem] };
        let spawned = thread::Builder::new().name("policy-change".to_owned()).spawn(run);
        spawned.map_err(|error| refused(format!("a thread cannot be started: {error}")))?;
        answer.await.map_err(|_| refused("the change ended early, the log says why".to_owned()))?
    }
}
