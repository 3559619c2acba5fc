//! What the HTTP port of a coordinator shows: the cluster, as `cluster status` does.

use super::desk::Handle;
use crate::http::{Ready, Status, View};
use config::node::Role;

const NOTE: &str =
    "This coordinator does not lead: how nodes and tasks fare, the leader's page shows.";

pub(super) fn of(node: String, handle: Handle) -> (View, Ready) {
    let asked = handle.clone();
    let ready = Ready::new(move || {
        let handle = asked.clone();
        async move {
            match handle.ask(|desk| desk.cluster().next_offset()).await {
                Ok(0) => Err("the control topic is not read yet, or holds nothing".into()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        }
    });
    let view = View::new(move || {
        let (node, handle) = (node.clone(), handle.clone());
        async move {
            let look = handle.ask(|desk| (desk.view().cluster(), desk.cluster().tasks.clone()));
            let (cluster, tasks) = look.await?;
            let mut status = Status::of_cluster(&node, Role::Coordinator, cluster, &tasks);
            if status.leader.as_ref() != Some(&node) {
                status.note = NOTE.into();
            }
            Ok(status)
        }
    });
    (view, ready)
}
