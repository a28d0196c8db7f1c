//! What counts as a transaction control statement, and what only looks like one.

use super::*;

#[test]
fn words_count_where_a_statement_begins_and_nowhere_else() {
    for sql in [
        "UPDATE jobs SET started_at = now(), beginning = start WHERE end_of_it > $1",
        "SELECT CASE WHEN a THEN 'BEGIN' END, \"begin\" FROM t",
        "SELECT 1 -- ; BEGIN\n, 2",
        "SELECT 1 /* ; BEGIN /* ; */ ; COMMIT */ ; SELECT 2",
        "SELECT '; BEGIN; ''; COMMIT; ', E'\\'; BEGIN; ', E'\\\\\\'; BEGIN', \"; BEGIN; \"",
        "SELECT E'a''\\'; BEGIN; '",
        "DO $$ BEGIN; PERFORM 1; END $$",
        "DO $a1$ ; BEGIN $$ ; COMMIT $$; END $a1$; SELECT $1",
        "SELECT a$b$, $1; SELECT c$b$",
        "SELECT 1; ROLLBACK TO a; rollback work to savepoint a; ROLLBACK TRANSACTION TO a; SAVEPOINT b; RELEASE b",
        "COMMIT PREPARED 'x'; ROLLBACK PREPARED 'x'",
        "PREPARE x AS SELECT 1; EXECUTE x; DEALLOCATE x",
        "SELECT COMMIT; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; (BEGIN)",
        "START; beginning; BEGINNING; START_TRANSACTION; 1BEGIN; ébegin",
        "'BEGIN' BEGIN; \"COMMIT\" COMMIT; $$a$$ BEGIN",
        "TABLE starts; VALUES (1)",
        "RESTART; ALTER SEQUENCE s RESTART; TRUNCATE t RESTART IDENTITY",
        "SELECT 'not closed; BEGIN",
        "SELECT $a$ not closed; BEGIN",
        "SELECT E'not closed\\",
        "/* not closed; BEGIN",
        "-- COMMIT",
        "$",
        ";;",
        "",
    ] {
        assert_eq!(of(sql), None, "{sql}");
        assert!(!ends(sql), "{sql}");
        assert_eq!(goes_back(sql), sql.contains("TO a"), "{sql}");
    }
}

#[test]
fn the_last_statement_for_transactions_has_the_last_word() {
    use TransactionControl::{Chains, Ends, Opens};
    for (sql, expected) in [
        ("BEGIN", Opens),
        (" begin;", Opens),
        ("Begin Work", Opens),
        ("/* a */ BEGIN ISOLATION LEVEL SERIALIZABLE -- b", Opens),
        ("START TRANSACTION READ ONLY", Opens),
        ("start/**/transaction", Opens),
        ("SELECT 1; BEGIN; SELECT 2", Opens),
        ("COMMIT; BEGIN", Chains),
        ("SELECT 'a;b'; BEGIN", Opens),
        ("COMMIT", Ends),
        ("END WORK;", Ends),
        ("abort", Ends),
        ("ROLLBACK;", Ends),
        ("rollback transaction", Ends),
        ("PREPARE TRANSACTION 'x'", Ends),
        ("COMMIT AND NO CHAIN", Ends),
        ("ROLLBACK TRANSACTION AND NO CHAIN", Ends),
        ("BEGIN; INSERT INTO t VALUES (';'); COMMIT", Ends),
        ("BEGIN; SELECT 1; ROLLBACK; SELECT 2", Ends),
        ("COMMIT AND CHAIN", Chains),
        ("ROLLBACK WORK AND CHAIN; SELECT 1", Chains),
    ] {
        assert_eq!(of(sql), Some(expected), "{sql}");
        assert_eq!(ends(sql), expected != Opens, "{sql}");
    }
}

#[test]
fn the_body_of_a_function_is_the_functions() {
    for body in ["SELECT 1; SELECT CASE WHEN a THEN 1 END; END", "END", "SELECT 1; END SECURITY DEFINER"] {
        let function = format!("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC {body}");
        assert_eq!((of(&function), ends(&function)), (None, false), "{function}");
        assert_eq!(of(&format!("BEGIN; {function}; SELECT 1")), Some(TransactionControl::Opens), "{function}");
        assert_eq!(of(&format!("BEGIN; {function}; COMMIT")), Some(TransactionControl::Ends), "{function}");
    }
    assert_eq!(of("SELECT atomic FROM begin; COMMIT"), Some(TransactionControl::Ends));
}

#[test]
fn a_session_stands_where_the_last_word_that_has_succeeded_says() {
    let stands = TransactionTracker::outside();
    for (sql, is_ok, expected) in [
        ("SELECT 1", true, TransactionState::Outside),
        ("BEGIN", true, TransactionState::Inside),
        ("SELECT broken", false, TransactionState::Inside),
        ("COMMIT AND CHAIN", true, TransactionState::Inside),
        ("COMMIT", true, TransactionState::Outside),
        ("SELECT 1; COMMIT", false, TransactionState::Unclear),
        ("SELECT 1", true, TransactionState::Unclear),
        ("ROLLBACK", true, TransactionState::Outside),
        ("BEGIN", false, TransactionState::Unclear),
    ] {
        stands.sends(of(sql));
        assert!(of(sql).is_none() || stands.get() == TransactionState::Unclear, "until it is over: {sql}");
        stands.call_ended(of(sql), is_ok);
        assert_eq!(stands.get(), expected, "{sql}");
    }
}

#[test]
fn a_copy_that_takes_its_data_from_the_client_is_told_from_all_others() {
    for sql in [
        "COPY t FROM STDIN",
        "copy \"from\" (a, b)\n from -- here\n stdin WITH (FORMAT csv)",
        "/* all */ COPY a.t (x) FROM STDIN BINARY;",
    ] {
        assert!(copies_in(sql), "{sql}");
    }
    for sql in [
        "",
        "COPY t TO STDOUT",
        "COPY t FROM '/srv/stdin'",
        "COPY t FROM PROGRAM 'cat' -- FROM STDIN",
        "COPY (SELECT 'FROM STDIN') TO STDOUT",
        "COPY (INSERT INTO t SELECT n FROM stdin RETURNING n) TO STDOUT",
        "COPY /* what is new */ (INSERT INTO t SELECT n FROM stdin RETURNING n) TO STDOUT",
        "COPY",
        "COPY \"FROM\" \"STDIN\" TO STDOUT",
        "INSERT INTO t SELECT * FROM stdin",
        "SELECT 1; COPY t FROM STDIN",
    ] {
        assert!(!copies_in(sql), "{sql}");
    }
}
