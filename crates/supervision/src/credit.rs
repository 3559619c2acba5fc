//! Credit: bytes paid for. Memory is bounded by it, not by mailboxes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes that one task may hold between the WAL and Kafka. Clones share one account.
#[derive(Clone, Debug)]
pub struct Budget {
    account: Arc<Semaphore>,
    bytes_max: u32,
}

/// Bytes taken from a [`Budget`], given back when the value is dropped, wherever that happens.
#[derive(Debug)]
pub struct Credit {
    permit: Option<OwnedSemaphorePermit>,
    refund: Option<Refund>,
}

/// Tells whoever has lent the bytes that they are given back.
pub type TellLender = Arc<dyn Fn(u32) + Send + Sync>;

struct Refund {
    bytes: u32,
    tell: TellLender,
}

/// Credit of what was handed to another process, until that gives it back. Bytes come back in any order
/// and in any portions: the oldest are taken as given back first.
#[derive(Debug, Default)]
pub struct Lent {
    credits: VecDeque<Credit>,
    /// Given back, and less than the oldest credit.
    repaid: usize,
}

/// More was given back than was lent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{bytes} bytes of credit were given back that nobody had been lent")]
pub struct Overpaid {
    pub bytes: usize,
}

impl Budget {
    /// An account of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u32) -> Self {
        Self { account: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// Waits until `bytes` are free and takes them. A batch larger than the whole account takes all
    /// of it: it passes alone. Cancel-safe: dropped while waiting, it has taken nothing.
    pub async fn take(&self, bytes: usize) -> Credit {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        // The account is never closed, so this cannot fail; without a permit nothing is owed.
        Credit { permit: self.account.clone().acquire_many_owned(bytes).await.ok(), refund: None }
    }

    /// Bytes that nobody holds now.
    #[must_use]
    pub fn bytes_free(&self) -> usize {
        self.account.available_permits()
    }

    /// Bytes of the whole account.
    #[must_use]
    pub fn bytes_max(&self) -> u32 {
        self.bytes_max
    }
}

impl Credit {
    /// For what costs nothing, such as a keepalive.
    #[must_use]
    pub fn none() -> Self {
        Self { permit: None, refund: None }
    }

    /// The same, of which `bytes` were lent by another process: `tell` tells it when this is given back.
    #[must_use]
    pub fn lent_by(mut self, bytes: u32, tell: TellLender) -> Self {
        self.refund = Some(Refund { bytes, tell });
        self
    }

    /// Bytes that this value holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        // Ours first: what the lender sends on hearing of it finds room here.
        self.permit = None;
        if let Some(Refund { bytes, tell }) = self.refund.take() {
            tell(bytes);
        }
    }
}

impl fmt::Debug for Refund {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refund").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Lent {
    /// Keeps a credit; says how many bytes are to be given back for it.
    pub fn lend(&mut self, credit: Credit) -> u32 {
        // An account holds no more than a `u32` counts.
        let bytes = u32::try_from(credit.bytes()).unwrap_or(u32::MAX);
        if bytes != 0 {
            self.credits.push_back(credit);
        }
        bytes
    }

    /// Bytes were given back.
    ///
    /// # Errors
    /// When they are more than was lent.
    pub fn repay(&mut self, bytes: u32) -> Result<(), Overpaid> {
        self.repaid += bytes as usize;
        while let Some(oldest) = self.credits.front().map(Credit::bytes)
            && oldest <= self.repaid
        {
            self.repaid -= oldest;
            self.credits.pop_front();
        }
        if self.credits.is_empty() && self.repaid != 0 {
            return Err(Overpaid { bytes: self.repaid });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[actix_rt::test]
    async fn dropping_credit_anywhere_gives_the_bytes_back() {
        let budget = Budget::new(100);
        let held = budget.take(60).await;
        assert_eq!((held.bytes(), budget.bytes_free()), (60, 40));
        drop(held);
        assert_eq!(budget.bytes_free(), 100);
    }

    #[actix_rt::test]
    async fn a_batch_larger_than_the_account_passes_alone() {
        let budget = Budget::new(100);
        let giant = budget.take(1 << 40).await;
        assert_eq!((giant.bytes(), budget.bytes_free()), (100, 0));
    }

    #[actix_rt::test]
    async fn a_lender_is_told_of_what_it_has_lent_once_it_is_free_here() {
        let budget = Budget::new(100);
        let (here, told) = (budget.clone(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&told);
        let tell: TellLender =
            Arc::new(move |bytes| seen.lock().expect("no panic").push((bytes, here.bytes_free())));
        let credit = budget.take(60).await.lent_by(50, tell);
        assert_eq!(*told.lock().expect("no panic"), []);
        drop(credit);
        assert_eq!(*told.lock().expect("no panic"), [(50, 100)]);
    }

    #[actix_rt::test]
    async fn what_was_lent_comes_back_in_any_portions() {
        let (budget, mut lent) = (Budget::new(100), Lent::default());
        for bytes in [40, 0, 60] {
            let credit = budget.take(bytes).await;
            assert_eq!(lent.lend(credit) as usize, bytes);
        }
        let mut free_after = |bytes| {
            lent.repay(bytes).expect("owed");
            budget.bytes_free()
        };
        // The second came back before the first, and that in two pieces.
        assert_eq!([60, 10, 30].map(&mut free_after), [40, 40, 100]);
        assert_eq!(lent.repay(1), Err(Overpaid { bytes: 1 }));
    }

    #[actix_rt::test]
    async fn without_credit_the_taker_waits() {
        let budget = Budget::new(100);
        let first = budget.take(80).await;
        let mut second = Box::pin(budget.take(30));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.bytes(), 30);
    }
}
