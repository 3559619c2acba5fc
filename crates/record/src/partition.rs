//! Partition policies and their hashes (reference-dts.md, section 1).
//!
//! `murmur2` is that of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`), so that
//! other producers find the same partition; `java` is `String.hashCode`, DTS's documented hash.

/// Kafka's murmur2 (32 bit, seed 0x9747b28c).
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_B28C;
    const M: u32 = 0x5BD1_E995;
    // Kafka's lengths are Java ints.
    #[expect(clippy::cast_possible_truncation, reason = "as Java does")]
    let mut hash = SEED ^ data.len() as u32;
    let mut blocks = data.chunks_exact(4);
    for block in &mut blocks {
        let mut k = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = blocks.remainder();
    if !rest.is_empty() {
        for (index, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash.cast_signed()
}

/// Java's `String.hashCode`: over UTF-16 code units.
#[must_use]
pub fn java_hash(text: &str) -> i32 {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    if text.is_ascii() {
        return text.bytes().fold(0, |hash, byte| add(hash, u16::from(byte)));
    }
    text.encode_utf16().fold(0, add)
}

/// A murmur2 hash → partition, as Kafka's default partitioner: sign bit cleared, modulo.
#[must_use]
pub fn of_murmur2(hash: i32, partitions: i32) -> i32 {
    (hash & 0x7FFF_FFFF) % partitions.max(1)
}

/// A Java hash → partition: absolute value, modulo.
#[must_use]
pub fn of_java(hash: i32, partitions: i32) -> i32 {
    let partitions = partitions.max(1).cast_unsigned();
    (hash.unsigned_abs() % partitions).cast_signed()
}

/// Partition of all rows of a table under the policy `table`: the hash of the names of database and
/// table, joined without a separator.
#[must_use]
pub fn of_table(hash: config::Hash, database: &str, table: &str, partitions: i32) -> i32 {
    let joined = [database, table].concat();
    match hash {
        config::Hash::Murmur2 => of_murmur2(murmur2(joined.as_bytes()), partitions),
        config::Hash::Java => of_java(java_hash(&joined), partitions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_kafkas() {
        // UtilsTest.testMurmur2 of Kafka's Java client.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn java_hash_is_javas() {
        for (text, hash, absolute) in [
            ("orders", -1_008_770_331, 3),
            ("shoporders", -335_106_725, 5),
            ("shop.orders", 570_428_637, 3),
            ("appdb.shop.orders", -1_662_799_922, 2),
            ("1001", 1_507_424, 2),
            ("2001", 1_537_215, 3),
        ] {
            assert_eq!(java_hash(text), hash, "{text}");
            assert_eq!(of_java(hash, 6), absolute, "{text}");
        }
        // U+1F600 is two UTF-16 units: 0xD83D * 31 + 0xDE00.
        assert_eq!(java_hash("\u{1F600}"), 0xD83D * 31 + 0xDE00);
        assert_eq!(java_hash("ä"), 0xE4);
    }

    #[test]
    fn the_smallest_hash_has_a_partition() {
        assert_eq!(of_java(i32::MIN, 6), 2);
        assert_eq!(of_murmur2(i32::MIN, 6), 0);
        assert_eq!(of_murmur2(-1, 6), 1);
    }

    #[test]
    fn a_table_has_one_partition() {
        assert_eq!(of_table(config::Hash::Java, "shop", "orders", 6), 5);
        let murmur2 = of_murmur2(murmur2(b"shoporders"), 6);
        assert_eq!(of_table(config::Hash::Murmur2, "shop", "orders", 6), murmur2);
    }
}
