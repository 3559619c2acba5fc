//! Which lane owns a partition of a topic.

use crate::partition::murmur2;

/// `lane = hash(topic, partition) mod lanes` (delivery-protocol.md, section 2).
///
/// The hash is Kafka's murmur2 over the topic's UTF-8 bytes, followed by the partition as four
/// big-endian bytes, with the sign bit cleared. It is fixed: checkpoints of lanes rest on it.
#[must_use]
pub fn lane(topic: &str, partition: i32, lanes: u8) -> u8 {
    let mut bytes = Vec::with_capacity(topic.len() + 4);
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&partition.to_be_bytes());
    let hash = murmur2(&bytes).cast_unsigned() & 0x7FFF_FFFF;
    u8::try_from(hash % u32::from(lanes.max(1))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        let lanes = |topic| (0..6).map(|partition| lane(topic, partition, 8)).collect::<Vec<_>>();
        assert_eq!(lanes("shop.orders"), FROZEN_ORDERS);
        assert_eq!(lanes("shop.items"), FROZEN_ITEMS);
    }

    const FROZEN_ORDERS: [u8; 6] = [4, 7, 1, 5, 0, 2];
    const FROZEN_ITEMS: [u8; 6] = [6, 2, 4, 2, 2, 2];

    #[test]
    fn every_lane_of_a_task_gets_partitions() {
        let mut taken = [false; 8];
        for partition in 0..64 {
            taken[usize::from(lane("shop.orders", partition, 8))] = true;
        }
        assert_eq!(taken, [true; 8]);
        assert_eq!(lane("shop.orders", 3, 1), 0);
    }
}
