//! Progress: what a verifier is waiting for, to show while the network is slow.

use tokio::sync::watch;

/// The current step, in words; empty while there is none. Of several verifications the last step is shown.
pub(crate) struct Progress(watch::Sender<String>);

impl Default for Progress {
    fn default() -> Progress {
        Progress(watch::Sender::new(String::new()))
    }
}

impl Progress {
    pub(crate) fn begin(&self, text: String) -> Step<'_> {
        self.0.send_replace(text);
        Step(self)
    }

    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }
}

/// Steps of one verification. Nothing is shown once it is dropped.
pub(crate) struct Step<'a>(&'a Progress);

impl Step<'_> {
    pub(crate) fn next(&self, text: String) {
        self.0.0.send_replace(text);
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(String::new());
    }
}
