//! The statements of consumers.

use crate::LogName;

/// The statements, with the log's names.
#[derive(Debug)]
pub(in crate::store::postgres) struct Statements {
    pub(super) create: String,
    pub(super) lock: String,
    pub(super) define: String,
    pub(super) fence: String,
    pub(super) live: String,
    pub(super) count: String,
    pub(super) release: String,
    pub(super) take: String,
    pub(super) of_member: String,
    pub(super) renew: String,
    pub(super) leave: String,
    pub(super) save: String,
    pub(super) skip: String,
    pub(super) status: String,
    pub(super) skipped: String,
    pub(super) pause: String,
    pub(super) reset: String,
    pub(super) forget: String,
    pub(super) delete_progress: String,
    pub(super) delete: String,
    pub(super) held: String,
}

impl Statements {
    pub(in crate::store::postgres) fn new(name: &LogName) -> Self {
        Self {
            create: name.put_into(include_str!("../sql/consumer_create.sql")),
            lock: name.put_into(include_str!("../sql/consumer_lock.sql")),
            define: name.put_into(include_str!("../sql/consumer_define.sql")),
            fence: name.put_into(include_str!("../sql/consumer_fence.sql")),
            live: name.put_into(include_str!("../sql/member_live.sql")),
            count: name.put_into(include_str!("../sql/member_count.sql")),
            release: name.put_into(include_str!("../sql/progress_release.sql")),
            take: name.put_into(include_str!("../sql/progress_take.sql")),
            of_member: name.put_into(include_str!("../sql/progress_of_member.sql")),
            renew: name.put_into(include_str!("../sql/member_renew.sql")),
            leave: name.put_into(include_str!("../sql/member_leave.sql")),
            save: name.put_into(include_str!("../sql/progress_save.sql")),
            skip: name.put_into(include_str!("../sql/progress_skip.sql")),
            status: name.put_into(include_str!("../sql/progress_status.sql")),
            skipped: name.put_into(include_str!("../sql/progress_skipped.sql")),
            pause: name.put_into(include_str!("../sql/consumer_pause.sql")),
            reset: name.put_into(include_str!("../sql/consumer_reset.sql")),
            forget: name.put_into(include_str!("../sql/progress_forget.sql")),
            delete_progress: name.put_into(include_str!("../sql/progress_delete.sql")),
            delete: name.put_into(include_str!("../sql/consumer_delete.sql")),
            held: name.put_into(include_str!("../sql/marks_held.sql")),
        }
    }
}
