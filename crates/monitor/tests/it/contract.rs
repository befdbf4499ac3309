//! The conmon contract as a table: docs/monitor.md maps its clauses to these tests.

mod churn;
mod clients;
mod execs;
mod faults;
mod files;
mod messages;
mod options;
mod order;
mod side;
mod terminals;
