//! Stories told through the doors that users use: a real gateway, a real receiver, HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod api;
mod api_access;
mod api_bodies;
mod api_cloud_api;
mod api_deliveries;
mod api_description;
mod api_destinations;
mod api_events;
mod api_ingest;
mod api_registry;
mod api_shared_apps;
mod api_statistics;
mod backups;
mod binary;
mod bridges;
mod brokers;
mod clients;
mod cluster;
mod command_choices;
mod command_deliveries;
mod command_line;
mod configuration;
mod connections;
mod copying;
mod database_outages;
mod deploy;
mod doctor;
mod documentation;
mod engine;
mod evolution;
mod evolution_import;
mod evolution_socket;
mod first_start;
mod handover;
mod image;
mod lane;
mod lane_account;
mod lane_change;
mod lane_delivery;
mod lane_limits;
mod lane_nodes;
mod lane_order;
mod lane_outage;
mod lane_replay;
mod logs;
mod media;
mod metrics;
mod operations;
mod packages;
#[path = "../../../store/tests/contract/server.rs"]
mod postgres;
#[path = "../chaos/proxy.rs"]
#[expect(dead_code, reason = "the chaos needs more of it")]
mod proxy;
#[expect(dead_code, reason = "the faults need more of it")]
mod receiver;
mod ryze;
mod server;
mod shutdown;
mod simulator;
mod socket;
mod stream;
mod stream_access;
mod stream_acks;
mod stream_commands;
mod stream_nodes;
mod traces;
mod vzaps;
