//! What the end-to-end tests, the demo and the bench share: programs, servers, a workload and the oracle that judges it.
//!
//! | module | one idea |
//! | --- | --- |
//! | [`programs`] | where our binaries and the real Litestreams lie |
//! | [`process`] | start, watch, signal and always reap a program, in a clean environment |
//! | [`procfs`] | what a process cost: CPU, memory, wake-ups, bytes |
//! | [`chance`] | a printed seed, honoured from `SEED=` |
//! | [`workload`] | rows whose content follows from their number, and the writer that commits them |
//! | [`supervised`] | one run of the supervisor, around fixtures or whatever it is given |
//! | [`living`] | the supervisor around a real writer and the real agent |
//! | [`oracle`] | is this database some committed state, and which one |
//! | [`replica`] | where a backup goes: a directory or a bucket |
//! | [`tenants`] | a directory of small databases, as an application with one for each tenant keeps it |
//! | [`tool`] | ours, Litestream 0.3.13 or 0.5.17, behind the same three commands |
//! | [`scene`] | a database with its replica, in one directory |
//! | [`scrape`] | what a program answers to a probe or a scraper |
//! | [`prometheus`] | a real Prometheus on loopback, with our rules |
//! | [`dashboard`] | what the dashboard and the alerts ask it |
//! | [`agent`] | our agent with the test as its supervisor |
//! | [`wal`] | where the committed part of a live WAL ends |
//! | [`ceph`] | a real S3 server on loopback |
//! | [`rclone`] | an S3 server that ignores conditions and ranges |
//! | [`moto`] | an emulation of S3 and IAM that checks policies |
//! | [`signed`] | one signed request to set up or read back |
//! | [`azurite`] | a real Azure Blob service on loopback |
//! | [`giver`] | what gives out keys for a while |
//! | [`entra`] | what gives out Azure's tokens, emulated |
//! | [`sqld`] | a real libsql server on loopback |
//! | [`sshd`] | a real SFTP server on loopback |
//! | [`sts`] | what gives out keys on AWS, emulated |
//! | [`gcs`] | an emulation of Google Cloud Storage |
//! | [`proxy`] | what goes wrong between a program and its server |
//! | [`faulty`] | a replica behind that proxy |
//! | [`volume`] | a file system that fills up, and comes and goes |
//! | [`container`] | a container engine of the test's own |
//! | [`images`] | the images it runs, built once for all tests of a run |
//! | [`machine`] | a machine that boots a real systemd |
//! | [`manifest`] | files of YAML documents as values |
//! | [`pod`] | a pod as a kubelet would run it |

pub mod agent;
pub mod azurite;
pub mod ceph;
pub mod chance;
pub mod container;
pub mod dashboard;
pub mod entra;
pub mod faulty;
pub mod gcs;
pub mod giver;
pub mod images;
pub mod living;
pub mod machine;
pub mod manifest;
pub mod moto;
pub mod oracle;
pub mod pod;
pub mod process;
pub mod procfs;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod rclone;
pub mod replica;
pub mod scene;
pub mod scrape;
pub mod signed;
pub mod sqld;
pub mod sshd;
pub mod sts;
pub mod supervised;
pub mod tenants;
pub mod tool;
pub mod volume;
pub mod wal;
pub mod workload;
