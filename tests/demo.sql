-- A secret, as AWS Secrets Manager keeps it for a database:
SELECT create_secret('test-db-secret', '{"username": "app", "password": "{app_password}"}');
--> arn:aws:secretsmanager:us-east-1:

-- Read it, as JSON:
SELECT get_secret_value('test-db-secret') ->> 'username' AS username;
-->  app

SELECT name, stages, created IS NOT NULL AS has_date FROM describe_secret('test-db-secret');
--> {AWSCURRENT}

-- Connect with it. The password goes from Secrets Manager straight to the remote server:
SELECT connect_with_secret('test-db-secret', '127.0.0.1', 'testdb', 'app', {remote_port});
--> Connection established successfully

-- AWS was asked once. What it said is kept for all sessions of the server, encrypted:
SELECT secret_id, stage, state, hits FROM secret_cache;
-->  test-db-secret | AWSCURRENT | fresh |    1

-- Query remote tables:
SELECT *
FROM dblink('remote_conn', 'SELECT c.name, o.item, o.amount FROM orders o JOIN customers c ON c.id = customer_id')
     AS t(customer text, item text, amount numeric)
ORDER BY amount DESC;
-->  Ada      | analytical engine | 1843.00
--> (4 rows)

-- The connection is encrypted:
SELECT * FROM dblink('remote_conn', 'SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()') AS t(tls text);
--> TLSv1.3

-- Change remote data:
SELECT dblink_exec('remote_conn', $$INSERT INTO orders VALUES (105, 1, 'punched cards', 7.25, current_date)$$);
--> INSERT 0 1

SELECT dblink_exec('remote_conn', 'UPDATE orders SET amount = amount * 2 WHERE customer_id = 2');
--> UPDATE 2

SELECT * FROM dblink('remote_conn', 'SELECT count(*), sum(amount) FROM orders') AS t(orders int, total numeric);
--> 1895.85

SELECT dblink_get_connections();
--> {remote_conn}

SELECT dblink_disconnect('remote_conn');
--> OK

-- A wrong secret name says what was asked for, and where:
SELECT connect_with_secret('no-such-secret', '127.0.0.1', 'testdb', 'app', {remote_port});
--> ERROR:
--> no-such-secret

-- For functions that want a text instead of an error:
SELECT connect_with_secret('no-such-secret', '127.0.0.1', 'testdb', 'app', {remote_port}, fail => false);
--> Connection failed:

-- Keep the password of a role in a secret, which is made when the password is set:
CREATE ROLE billing LOGIN; SELECT sync_role('billing', 'prod/billing');
--> secret "prod/billing" does not exist yet

ALTER USER billing PASSWORD 'changed in "SQL"';
--> ALTER ROLE

SELECT get_secret_value('prod/billing') AS secret;
--> "username":"billing","password":"changed in \"SQL\""

-- Log in with what the secret holds, host and port included:
SELECT connect_with_secret('prod/billing', connection_name => 'as_billing', options => 'sslmode=disable');
--> Connection established successfully

SELECT * FROM dblink('as_billing', 'SELECT current_user') AS t(logged_in_as text);
-->  billing

-- What is rolled back never gets there:
BEGIN; ALTER USER billing PASSWORD 'never'; ROLLBACK;
--> ROLLBACK

SELECT get_secret_value('prod/billing') ->> 'password' AS password, check_role_sync('billing');
-->  changed in "SQL" | in_sync

-- A role whose password nobody has ever seen:
SELECT create_role_with_secret('reporting', 'prod/reporting');
-->  prod/reporting

SELECT role, secret_id, state FROM role_sync;
-->  billing   | prod/billing   | in_sync
-->  reporting | prod/reporting | in_sync

-- Rotation. The secret of a role of the remote server says where that is:
SELECT create_secret('prod/app', '{"engine":"postgres","host":"127.0.0.1","port":{remote_port},"dbname":"testdb","username":"app","password":"{app_password}"}');
--> prod/app

-- Another session begins to log in with it, again and again. Meanwhile the role gets new passwords:
--! client comes
SELECT rotate_secret('prod/app'), rotate_secret('prod/app');
-->  slrotate-

-- Now the role expires while a rotation is under way. The new password is not accepted, and is taken back:
--! client leaves
--! role expires
SELECT rotate_secret('prod/app');
--> ERROR:
--> does not accept the new password

-- When it is valid again, the secret logs in as before:
--! role is valid
SELECT connect_with_secret('prod/app', connection_name => 'as_app');
--> Connection established successfully

SELECT run, secret_id, strategy, cause, step, outcome FROM rotation_history ORDER BY run;
--> succeeded
--> rolled_back

-- From now on by itself, in the first three hours after 2:00 of each month's first Sunday:
SELECT schedule_rotation('prod/app', 'cron(0 2 ? * SUN#1 *)', '3h') > now() AS scheduled;
-->  t

SELECT secret_id, schedule, state FROM rotation_schedule;
-->  prod/app  | cron(0 2 ? * SUN#1 *) | waiting
