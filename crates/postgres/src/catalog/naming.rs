//! By which name a relation goes: its own, or that of the root of its partition tree.
//!
//! From 13 on the server says the name that is wanted (`publish_via_partition_root`). Before,
//! leaves are published under their own names and named after their root here (design.md, server
//! fact 20).

use config::PartitionNames;
use record::selection::{Selection, SelectionError};

/// First version whose publications can publish via the root of a partition tree.
pub(crate) const VIA_ROOT_SINCE: u32 = 130_000;

/// Schema and name.
pub type Name = (String, String);

/// What a task says about names.
#[derive(Clone, Debug)]
pub struct Naming {
    names: PartitionNames,
    selection: Selection,
}

impl Naming {
    /// Reads the task.
    ///
    /// # Errors
    /// When a pattern of its objects cannot be read.
    pub fn new(task: &config::Task) -> Result<Self, SelectionError> {
        Ok(Self { names: task.source.partition_names, selection: Selection::new(task)? })
    }

    /// Whether leaves are named after their root here, and not by the server.
    pub(super) fn is_ours(&self, version: u32) -> bool {
        version < VIA_ROOT_SINCE && self.names == PartitionNames::Parent
    }

    /// The name of a leaf with this root. A leaf that is captured for its own sake keeps its name,
    /// as it does where the server decides.
    pub(super) fn of_leaf(&self, version: u32, root: Option<Name>) -> Option<Name> {
        root.filter(|_| self.is_ours(version))
            .filter(|(schema, name)| self.selection.selected(schema, name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(names: PartitionNames, pattern: &str) -> Naming {
        let mut task = config::Task::default();
        task.source.partition_names = names;
        task.objects = vec![config::Object { table: pattern.into(), ..config::Object::default() }];
        Naming::new(&task).unwrap()
    }

    #[test]
    fn leaves_go_by_the_name_of_a_selected_root_where_the_server_cannot_do_it() {
        let root = || Some(("public".to_owned(), "orders".to_owned()));
        let parent = naming(PartitionNames::Parent, "public.*");
        assert_eq!(parent.of_leaf(110_022, root()), root());
        assert_eq!(parent.of_leaf(130_000, root()), None);
        assert_eq!(parent.of_leaf(110_022, None), None);
        let only_leaf = naming(PartitionNames::Parent, "public.orders_2024");
        assert_eq!(only_leaf.of_leaf(110_022, root()), None);
        let child = naming(PartitionNames::Child, "public.*");
        assert_eq!(child.of_leaf(110_022, root()), None);
    }
}
