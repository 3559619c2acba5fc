//! Worker and coordinator: membership, placement, links, task lifecycle, admin service.
