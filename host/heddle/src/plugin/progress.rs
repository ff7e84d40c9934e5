//! That something is being done, on stderr, for somebody who sits before a terminal; nobody else is told.

use std::io::{IsTerminal as _, stderr};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Before the first word: what is quicker needs none.
const QUIET: Duration = Duration::from_millis(500);
const EACH: Duration = Duration::from_secs(1);

/// While it lives, the terminal says what is being done, and for how long.
pub(super) struct Progress(Option<(SyncSender<()>, JoinHandle<()>)>);

impl Progress {
    /// Begins.
    pub(super) fn of(what: impl Into<String>) -> Self {
        Self::to(what.into(), stderr().is_terminal(), stderr())
    }

    fn to(what: String, shown: bool, mut out: impl std::io::Write + Send + 'static) -> Self {
        if !shown {
            return Self(None);
        }
        let (end, ended) = sync_channel::<()>(1);
        let say = move || {
            let (mut wait, mut seconds, mut said) = (QUIET, 0, false);
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
                // A terminal that is gone is told nothing.
                let _ = write!(out, "\r{what}, {seconds} s ").and_then(|()| out.flush());
                (wait, seconds, said) = (EACH, seconds + 1, true);
            }
            if said {
                let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
            }
        };
        Self(std::thread::Builder::new().name("progress".to_owned()).spawn(say).ok().map(|thread| (end, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            // It ends at once: what comes after it on the terminal must stand on a clean line.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;

    /// What was written, and a bell for each time.
    #[derive(Clone, Default)]
    struct Terminal(Arc<(Mutex<String>, Condvar)>);

    impl std::io::Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
            self.0.1.notify_all();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_sees_what_is_done_and_a_clean_line_after_it_and_a_pipe_sees_nothing() {
        let terminal = Terminal::default();
        let progress = Progress::to("compiling p.wasm".to_owned(), true, terminal.clone());
        let (text, written) = &*terminal.0;
        let seen = written.wait_timeout_while(text.lock().unwrap(), Duration::from_secs(60), |text| text.is_empty());
        drop(seen.unwrap());
        drop(progress);
        let text = text.lock().unwrap().clone();
        assert!(text.starts_with("\rcompiling p.wasm, 0 s ") && text.ends_with("\r\x1b[K"), "{text:?}");
        let pipe = Terminal::default();
        drop(Progress::to("nothing".to_owned(), false, pipe.clone()));
        assert_eq!(*pipe.0.0.lock().unwrap(), "");
    }
}
