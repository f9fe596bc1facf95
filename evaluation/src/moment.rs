//! Monotonic time as plain data.

use std::time::Duration;

/// A moment on the monotonic clock of this process, as time since the process started to count. Decisions get it as an argument; only
/// the edges read a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// A moment so many seconds after the start.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment so long before this one, not before the start.
    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(age))
    }

    /// The moment so long before this one; `None` when that lies before the start, where nothing can be told apart.
    #[must_use]
    pub fn checked_before(self, age: Duration) -> Option<Self> {
        self.0.checked_sub(age).map(Self)
    }

    /// The moment so long after this one.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}
