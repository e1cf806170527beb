//! Errors and notices of the remote server, as a caller in this one sees them.

#[pgrx::pg_schema]
mod tests {
    use super::super::{Failure, connect, failure, quoted, run, text, texts};
    use pgrx::{pg_sys, prelude::*};

    /// What a remote statement raises.
    const RAISE: &str = "DO $$ BEGIN RAISE EXCEPTION 'it is 100%% wrong'
        USING ERRCODE = 'SL042', DETAIL = 'the detail', HINT = 'the hint'; END $$";

    fn expected(doing: &str) -> Failure {
        Failure {
            sqlstate: "SL042".into(),
            message: "it is 100% wrong".into(),
            detail: "the detail".into(),
            hint: "the hint".into(),
            context: format!(
                "PL/pgSQL function inline_code_block line 1 at RAISE\n{doing} on dblink connection named \"loop\""
            ),
        }
    }

    /// The error without the lines of the PL/pgSQL function that caught it.
    fn remote_part(mut error: Failure) -> Failure {
        let ours = error.context.find("\nSQL statement").unwrap_or(error.context.len());
        error.context.truncate(ours);
        error
    }

    fn stack() -> usize {
        // SAFETY: reads a global pointer.
        unsafe { pg_sys::error_context_stack as usize }
    }

    #[pg_test]
    fn every_field_arrives() {
        connect("loop");
        let error = failure(&format!("SELECT dblink_exec('loop', {})", quoted(RAISE)));
        assert_eq!(remote_part(error), expected("while executing command"));
        let error = failure(&format!("SELECT * FROM dblink('loop', {}) AS t(a int)", quoted(RAISE)));
        assert_eq!(remote_part(error), expected("while executing query"));
    }

    #[pg_test]
    fn errors_of_ours_have_all_fields_too() {
        let error = failure("SELECT dblink_connect('sslmod=x')");
        assert_eq!(error.sqlstate, "08001");
        assert_eq!(error.detail, "invalid connection option \"sslmod\"");
        assert_eq!(error.hint, "Perhaps you meant the option \"sslmode\".");
    }

    #[pg_test]
    fn an_error_after_a_caught_one_has_its_own_context() {
        connect("loop");
        let before = stack();
        for _ in 0..500 {
            let error = failure(&format!("SELECT dblink_exec('loop', {})", quoted(RAISE)));
            assert_eq!(remote_part(error), expected("while executing command"));
            // Nothing of it is left for an error that is not ours.
            let error = failure("SELECT 1 / 0");
            assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("22012", "division by zero"));
            assert_eq!((error.detail.as_str(), error.hint.as_str()), ("", ""));
            assert!(!error.context.contains("dblink"), "{}", error.context);
            assert_eq!(stack(), before);
        }
    }

    #[pg_test]
    fn caught_in_a_loop_of_plpgsql() {
        connect("loop");
        let before = stack();
        run(&format!(
            "CREATE FUNCTION pg_temp.again() RETURNS int LANGUAGE plpgsql AS $f$
             DECLARE caught int := 0; context text;
             BEGIN
                 FOR i IN 1..500 LOOP
                     BEGIN
                         PERFORM public.dblink_exec('loop', {});
                     EXCEPTION WHEN SQLSTATE 'SL042' THEN
                         GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
                         IF (length(context) - length(replace(context, 'dblink connection', ''))) / 17 <> 1 THEN
                             RAISE 'context of round %: %', i, context;
                         END IF;
                         caught := caught + 1;
                     END;
                 END LOOP;
                 RETURN caught;
             END $f$",
            quoted(RAISE)
        ));
        assert_eq!(text("SELECT pg_temp.again()::text").as_deref(), Some("500"));
        assert_eq!(stack(), before);
    }

    #[pg_test]
    fn notices_leave_nothing_behind() {
        connect("loop");
        let before = stack();
        run("SET LOCAL client_min_messages = error");
        let noisy = quoted("DO $$ BEGIN RAISE NOTICE 'n'; RAISE WARNING 'w'; RAISE INFO 'i'; END $$");
        for _ in 0..100 {
            assert_eq!(text(&format!("SELECT dblink_exec('loop', {noisy})")).as_deref(), Some("DO"));
            assert_eq!(stack(), before);
        }
        assert!(!failure("SELECT 1 / 0").context.contains("dblink"));
    }

    #[pg_test]
    fn without_fail_an_error_is_a_notice() {
        connect("loop");
        let before = stack();
        run("SET LOCAL client_min_messages = error");
        let raise = quoted(RAISE);
        assert_eq!(text(&format!("SELECT dblink_exec('loop', {raise}, false)")).as_deref(), Some("ERROR"));
        let rows = texts(&format!("SELECT a FROM dblink('loop', {raise}, false) AS t(a text)"));
        assert!(rows.is_empty());
        // Rows that came before the error are forgotten.
        let late = quoted("SELECT 1 / (3 - i) FROM generate_series(1, 5) i");
        let rows = texts(&format!("SELECT a FROM dblink('loop', {late}, false) AS t(a text)"));
        assert!(rows.is_empty());
        assert_eq!(stack(), before);
    }

    /// With the error left alone, the test's own transaction ends with it.
    #[pg_test(error = "it is 100% wrong")]
    fn uncaught() {
        connect("loop");
        run(&format!("SELECT dblink_exec('loop', {})", quoted(RAISE)));
    }
}
