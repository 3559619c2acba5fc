//! Credit: bytes paid for. Memory is bounded by it, not by mailboxes.

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
        Credit { permit: self.account.clone().acquire_many_owned(bytes).await.ok() }
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
        Self { permit: None }
    }

    /// Bytes that this value holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    async fn without_credit_the_taker_waits() {
        let budget = Budget::new(100);
        let first = budget.take(80).await;
        let mut second = Box::pin(budget.take(30));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.bytes(), 30);
    }
}
