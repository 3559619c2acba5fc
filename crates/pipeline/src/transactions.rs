//! Counting the records of source transactions, as they are routed. Pure.
//!
//! Routing depends on WAL content and plans only, and a front begins between two transactions: every life of it comes
//! to the same numbers.

use record::transaction::{Order, Summary};
use std::collections::HashMap;
use wal::{Lsn, Table, Transaction};

/// The transaction in hand, and those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    open: Option<Summary>,
    /// Of the open one, where its collections are, by `schema` and `name`.
    places: HashMap<(String, String), usize>,
    /// That of the last record: neighbours are mostly of one table.
    last: Option<((u32, u32), usize)>,
    ended: Vec<Summary>,
}

impl Transactions {
    /// Counts the next record, and says where it stands.
    pub(crate) fn count(&mut self, transaction: &Transaction, lsn: Lsn, table: &Table) -> Order {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.transaction.commit_lsn != transaction.commit_lsn)
        {
            self.end();
        }
        let open = self.open.get_or_insert_with(|| Summary {
            transaction: *transaction,
            first_lsn: lsn,
            records: 0,
            collections: Vec::new(),
        });
        let version = (table.oid, table.version);
        let place = match self.last {
            Some((last, place)) if last == version => place,
            Some(_) | None => {
                let name = (table.schema.to_string(), table.name.to_string());
                *self.places.entry(name).or_insert_with_key(|(schema, name)| {
                    open.collections.push((format!("{schema}.{name}"), 0));
                    open.collections.len() - 1
                })
            }
        };
        self.last = Some((version, place));
        open.records += 1;
        let (total, collection) = (open.records, &mut open.collections[place].1);
        *collection += 1;
        Order { total, collection: *collection }
    }

    /// The transaction in hand has ended.
    pub(crate) fn end(&mut self) {
        self.ended.extend(self.open.take());
        self.places.clear();
        self.last = None;
    }

    /// What commits below `end` has ended, also where nothing of a later one was counted yet.
    pub(crate) fn end_below(&mut self, end: Lsn) {
        if self.open.as_ref().is_some_and(|open| open.transaction.commit_lsn < end) {
            self.end();
        }
    }

    /// Those that have ended since they were asked for, in commit order. Without a record there is none.
    pub(crate) fn take_ended(&mut self) -> Vec<Summary> {
        std::mem::take(&mut self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wal::table::ReplicaIdentity;

    fn table(number: u32) -> Table {
        Table {
            oid: number,
            version: 1,
            schema: "shop".into(),
            name: format!("t{number}").into(),
            identity: ReplicaIdentity::Default,
            columns: Vec::new(),
            key: Vec::new(),
            unique: Vec::new(),
        }
    }

    fn transaction(number: u64) -> Transaction {
        Transaction {
            xid: u32::try_from(number).expect("small"),
            commit_lsn: Lsn(number),
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        }
    }

    #[test]
    fn a_transaction_has_ended_where_the_next_one_has_begun_without_a_record() {
        let mut transactions = Transactions::default();
        transactions.count(&transaction(7), Lsn(5), &table(1));
        transactions.end_below(Lsn(7));
        assert!(transactions.take_ended().is_empty(), "its end lies above its commit record");
        transactions.end_below(Lsn(8));
        assert_eq!(transactions.take_ended().len(), 1);
        transactions.end_below(Lsn(9));
        assert!(transactions.take_ended().is_empty());
    }

    proptest! {
        /// However the stream is cut into batches, each record has its own place, and the ends add up.
        #[test]
        fn places_and_ends_agree(
            rows in proptest::collection::vec((1u64..6, 0u32..3), 0..60),
            cuts in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let mut rows = rows;
            rows.sort_by_key(|(number, _)| *number);
            let (mut transactions, mut told) = (Transactions::default(), Vec::new());
            let mut seen: HashMap<u64, Vec<(u32, Order)>> = HashMap::new();
            for (index, (number, at)) in rows.iter().enumerate() {
                let order = transactions.count(&transaction(*number), Lsn(index as u64), &table(*at));
                seen.entry(*number).or_default().push((*at, order));
                let ends = rows.get(index + 1).is_none_or(|(next, _)| next != number);
                if ends && cuts[index] {
                    transactions.end();
                }
                if cuts[index] {
                    told.extend(transactions.take_ended());
                }
            }
            transactions.end();
            told.extend(transactions.take_ended());
            prop_assert_eq!(told.len(), seen.len());
            for summary in told {
                let rows = &seen[&summary.transaction.commit_lsn.0];
                prop_assert_eq!(summary.records, rows.len() as u64);
                let totals: Vec<_> = rows.iter().map(|(_, order)| order.total).collect();
                prop_assert_eq!(totals, (1..=summary.records).collect::<Vec<_>>());
                for (name, records) in &summary.collections {
                    let of = rows.iter().filter(|(at, _)| *name == format!("shop.t{at}"));
                    let places: Vec<_> = of.map(|(_, order)| order.collection).collect();
                    prop_assert_eq!(places, (1..=*records).collect::<Vec<_>>());
                }
            }
        }
    }
}
