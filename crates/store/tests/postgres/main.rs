//! The store, the migrations and the merge in SQL on a real Postgres, each test in a database of its own.
//!
//! One program holds them all, so that they are linked once and no core waits for the slowest test of each file.

mod access;
mod accounts_of_records;
mod bad_rows;
mod capture;
mod conflicts;
mod contention;
mod dead_letters;
mod edit_times;
mod first_load;
mod guard;
mod health;
mod history;
mod links;
mod maintain;
#[path = "../../../domain/tests/merge_table/mod.rs"]
mod merge_table;
mod migrations;
mod mirror;
mod outbox;
mod plans;
mod pooled;
mod proof;
mod realtime;
mod sql_merge;
mod sql_merge_detect;
mod sql_merge_people;
mod sql_merge_resolve;
mod sql_merge_rows;
mod sql_merge_support;
mod support;
mod upserts;
mod views;
