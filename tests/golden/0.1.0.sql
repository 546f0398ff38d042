BEGIN TRANSACTION;
CREATE TABLE attempts (
    id            TEXT    NOT NULL PRIMARY KEY,
    job_id        INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL CHECK (number >= 1),
    state         TEXT    NOT NULL CHECK (state IN ('starting', 'running', 'stopping', 'ended')),
    gpus          TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(gpus)),
    n_gpus        INTEGER NOT NULL CHECK (n_gpus >= 0),
    claimed_at    REAL    NOT NULL,
    claimed_boot  REAL    NOT NULL,
    boot_id       TEXT    NOT NULL,
    shim_pid      INTEGER,
    shim_start    INTEGER,
    pid           INTEGER,
    started_at    REAL,
    deadline_at   REAL,
    ended_at      REAL,
    run_s         REAL,
    stop_reason   TEXT,
    stop_by       TEXT,
    stop_grace_s  REAL,
    stop_at       REAL,
    exit_code     INTEGER,
    signal        INTEGER,
    class         TEXT,
    rule          TEXT,
    evidence      TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(evidence)),
    explanation   TEXT,
    retry         TEXT,
    gpu_ms        INTEGER NOT NULL DEFAULT 0 CHECK (gpu_ms >= 0),
    max_rss_bytes INTEGER,
    cpu_s         REAL,
    log_bytes     INTEGER NOT NULL DEFAULT 0,
    log_dropped_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job_id, number),
    CHECK ((class IS NULL) = (state <> 'ended'))
) WITHOUT ROWID;
INSERT INTO "attempts" VALUES('19fbb23c39331d6f6df4714ce803b5f8',9,1,'ended','[]',0,1.79561182730066370961e+09,1157.364473399,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15099,115736,15103,1.79561182735084629057e+09,NULL,1795611827.35646,3.82526499993218749295e-03,NULL,NULL,NULL,NULL,7,NULL,'user','exit-user','["exit code 7"]','failed with exit code 7','user retry 1 of 1 in 0.1 s',0,9310208,1.80399999999999983112e-03,0,0);
INSERT INTO "attempts" VALUES('491e4952da11801afe9f84983db2797a',11,1,'stopping','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000002","index":2}]',1,1.79561182731764864923e+09,1157.381458222,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15102,115738,15106,1.79561182736413717277e+09,NULL,NULL,NULL,'cancel','root',600.0,1.79561182738941574094e+09,NULL,NULL,NULL,NULL,'[]',NULL,NULL,0,NULL,NULL,0,0);
INSERT INTO "attempts" VALUES('4cc169598f47652482b15083461ba895',1,1,'ended','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0}]',1,1.79561182688442301752e+09,1156.948233212,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15080,115695,15086,1.7956118269655110836e+09,NULL,1.79561182698368597028e+09,1.65062690000468137441e-02,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',105,9277440,0.001834,5,0);
INSERT INTO "attempts" VALUES('5256ff7ce7f20553b973cf972d58cc9c',3,1,'ended','[]',0,1.79561182690453982353e+09,1156.968349896,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15082,115697,15088,1.79561182698701381687e+09,1.79561182728574061399e+09,1.7956118272926251888e+09,3.04305007000039040576e-01,'timeout','leptond',0.2,1.79561182728649020197e+09,143,NULL,'timeout','we-timed-out','["exit code 143"]','stopped at its wall-clock limit','class timeout is not retried: it would end the same way again',0,9293824,0.002789,11,0);
INSERT INTO "attempts" VALUES('7307aa284dd57eba3d405468e06b0bb8',6,1,'ended','[]',0,1.79561182698018693927e+09,1157.043996431,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15087,115704,15092,1.79561182701691961294e+09,NULL,1.79561182702392387391e+09,5.40325900010429904796e-03,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',0,9293824,0.001735,0,0);
INSERT INTO "attempts" VALUES('76f9565ccb2bdeaa91bf4905eb76ff26',17,1,'ended','[]',0,1.79561182740453910821e+09,1157.468348558,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15108,115746,15109,1.79561182742793798449e+09,NULL,1.79561182744216108319e+09,1.17005720001088775461e-02,NULL,NULL,NULL,NULL,1,NULL,'user','exit-user','["exit code 1"]','failed with exit code 1','user retry 1 of 3 in 512.9 s',0,9666560,3.11499999999999971356e-03,0,0);
INSERT INTO "attempts" VALUES('8a6f85f6dbc1267d41e706ee80b10f12',4,1,'ended','[]',0,1.79561182691020369524e+09,1156.974013533,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15083,115697,15091,1.79561182700036120422e+09,NULL,1795611827.00627,4.34835600003680156078e-03,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',0,9269248,1.55399999999999982591e-03,0,0);
INSERT INTO "attempts" VALUES('8dea00336b8c7706cdfbaafebbb3136e',2,2,'ended','[]',0,1.7956118270386683941e+09,1157.102478136,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15093,115710,15094,1.79561182706498622891e+09,NULL,1.79561182707613587383e+09,9.46890199998051684815e-03,NULL,NULL,NULL,NULL,7,NULL,'user','exit-user','["exit code 7"]','failed with exit code 7','all 1 user retries are spent',0,9281536,1.90399999999999987657e-03,0,0);
INSERT INTO "attempts" VALUES('9b7ea052e98dc37bb18c0ff47b69b778',10,1,'running','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0},{"uuid":"GPU-00000000-51d0-0000-0000-000000000001","index":1}]',2,1.79561182730461454393e+09,1157.368424192,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15100,115737,15104,1.79561182735262513162e+09,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,0,NULL,NULL,0,0);
INSERT INTO "attempts" VALUES('bd010a1970358bb265b4986be0b53bf9',8,1,'ended','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0}]',1,1.79561182708342194553e+09,1157.147231305,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15095,115714,15097,1.79561182710852503775e+09,NULL,1.79561182719255471229e+09,0.0,NULL,NULL,NULL,NULL,NULL,NULL,'infra-node','shim-lost','["no exit record, and the supervising process is gone"]','the process that supervised the job was killed, so its end is unknown','it may have run, and --no-requeue forbids a second run',109,NULL,NULL,0,0);
INSERT INTO "attempts" VALUES('e664642965a2cad32c73c514e736ca80',2,1,'ended','[]',0,1.79561182689663672443e+09,1156.96044811,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15081,115696,15085,1.79561182695798826213e+09,NULL,1.79561182696811127666e+09,0.00327822000008382,NULL,NULL,NULL,NULL,7,NULL,'user','exit-user','["exit code 7"]','failed with exit code 7','user retry 1 of 1 in 0.1 s',0,9293824,0.001898,0,0);
INSERT INTO "attempts" VALUES('f4714a3fbeb267e865762a5237bea4b0',5,1,'ended','[]',0,1.79561182691181468965e+09,1156.975624976,'da9a6d8f-7482-4a59-99e6-f27738265d3b',15084,115698,15090,1.79561182699433851241e+09,NULL,1.79561182700098514552e+09,4.24858699989272281527e-03,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',0,9293824,0.001696,0,0);
INSERT INTO "attempts" VALUES('ffffffffffffffffffffffffffffffff',19,1,'starting','[]',0,1.79561182746161675455e+09,1.0,'da9a6d8f-7482-4a59-99e6-f27738265d3b',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,0,NULL,NULL,0,0);
CREATE TABLE dependencies (
    job_id    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    on_job_id INTEGER NOT NULL,
    kind      TEXT    NOT NULL CHECK (kind IN ('ok', 'any', 'fail')),
    state     TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'met', 'failed')),
    PRIMARY KEY (job_id, on_job_id, kind),
    CHECK (on_job_id < job_id)  -- a job waits only for older ones: no cycles
) WITHOUT ROWID;
INSERT INTO "dependencies" VALUES(13,10,'ok','waiting');
INSERT INTO "dependencies" VALUES(14,1,'fail','failed');
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    type    TEXT NOT NULL,
    job_id  INTEGER,
    attempt INTEGER,
    data    TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data))
);
INSERT INTO "events" VALUES(1,1.79561182684114623072e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0,"present":true}');
INSERT INTO "events" VALUES(2,1.79561182684114623072e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000001","index":1,"present":true}');
INSERT INTO "events" VALUES(3,1.79561182684114623072e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000002","index":2,"present":true}');
INSERT INTO "events" VALUES(4,1.79561182684114623072e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000003","index":3,"present":true}');
INSERT INTO "events" VALUES(5,1.79561182688148355483e+09,'job.submitted',1,NULL,'{"name":"good","user":"root","gpus":1,"priority":0}');
INSERT INTO "events" VALUES(6,1.79561182688442301752e+09,'job.state',1,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0}]}');
INSERT INTO "events" VALUES(7,1.79561182688449716567e+09,'job.submitted',2,NULL,'{"name":"bad","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(8,1.79561182689663672443e+09,'job.state',2,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(9,1.79561182689802122111e+09,'job.submitted',3,NULL,'{"name":"late","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(10,1.79561182690453982353e+09,'job.state',3,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(11,1.79561182690462017063e+09,'job.submitted',4,NULL,'{"name":"sweep","user":"root","gpus":0,"priority":0,"array_id":4,"array_index":0}');
INSERT INTO "events" VALUES(12,1.79561182690462017063e+09,'job.submitted',5,NULL,'{"name":"sweep","user":"root","gpus":0,"priority":0,"array_id":4,"array_index":1}');
INSERT INTO "events" VALUES(13,1.79561182690462017063e+09,'job.submitted',6,NULL,'{"name":"sweep","user":"root","gpus":0,"priority":0,"array_id":4,"array_index":2}');
INSERT INTO "events" VALUES(14,1.79561182691020369524e+09,'job.state',4,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(15,1.79561182691138100618e+09,'job.submitted',7,NULL,'{"name":"gone","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(16,1.79561182691181468965e+09,'job.state',5,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(17,1.7956118269228386879e+09,'job.state',7,NULL,'{"from":"pending","to":"cancelled","class":"cancelled","exit_code":null,"explanation":"cancelled by root: not wanted"}');
INSERT INTO "events" VALUES(18,1.79561182695668864256e+09,'job.state',2,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(19,1.79561182696434211729e+09,'job.state',1,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(20,1.79561182697877621651e+09,'job.requeued',2,1,'{"from":"running","to":"pending","class":"user","explanation":"failed with exit code 7","retry":"user retry 1 of 1 in 0.1 s","delay_s":0.059,"held":false}');
INSERT INTO "events" VALUES(21,1.79561182698018693927e+09,'job.state',6,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(22,1.79561182698574066159e+09,'job.state',3,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(23,1.79561182698979759217e+09,'job.state',1,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(24,1.79561182699336862557e+09,'job.state',5,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(25,1.79561182699652242657e+09,'job.state',4,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(26,1.7956118270024414062e+09,'job.state',5,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(27,1.7956118270088937283e+09,'job.state',4,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(28,1.79561182701584959027e+09,'job.state',6,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(29,1.79561182702619051934e+09,'job.state',6,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(30,1.7956118270386683941e+09,'job.state',2,2,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(31,1.79561182706405210495e+09,'job.state',2,2,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(32,1.79561182707900285717e+09,'job.state',2,2,'{"from":"running","to":"failed","class":"user","exit_code":7,"explanation":"failed with exit code 7"}');
INSERT INTO "events" VALUES(33,1.79561182708183574678e+09,'job.submitted',8,NULL,'{"name":"lost","user":"root","gpus":1,"priority":0}');
INSERT INTO "events" VALUES(34,1.79561182708342194553e+09,'job.state',8,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0}]}');
INSERT INTO "events" VALUES(35,1.79561182710852503775e+09,'job.state',8,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(36,1.79561182719255471229e+09,'job.state',8,1,'{"from":"running","to":"lost","class":"infra-node","exit_code":null,"explanation":"the process that supervised the job was killed, so its end is unknown"}');
INSERT INTO "events" VALUES(37,1.79561182728649020197e+09,'job.state',3,1,'{"from":"running","to":"stopping","reason":"timeout","by":"leptond"}');
INSERT INTO "events" VALUES(38,1.79561182729446268077e+09,'job.state',3,1,'{"from":"stopping","to":"timed_out","class":"timeout","exit_code":143,"explanation":"stopped at its wall-clock limit"}');
INSERT INTO "events" VALUES(39,1.79561182729919576643e+09,'job.submitted',9,NULL,'{"name":"bad","user":"root","gpus":0,"priority":0,"retry_of":2}');
INSERT INTO "events" VALUES(40,1.79561182730066370961e+09,'job.state',9,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(41,1.79561182730162596701e+09,'job.submitted',10,NULL,'{"name":"running","user":"root","gpus":2,"priority":0}');
INSERT INTO "events" VALUES(42,1.79561182730461454393e+09,'job.state',10,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0},{"uuid":"GPU-00000000-51d0-0000-0000-000000000001","index":1}]}');
INSERT INTO "events" VALUES(43,1.79561182730591869355e+09,'job.submitted',11,NULL,'{"name":"stopping","user":"root","gpus":1,"priority":0}');
INSERT INTO "events" VALUES(44,1.79561182731764864923e+09,'job.state',11,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000002","index":2}]}');
INSERT INTO "events" VALUES(45,1.79561182734983849525e+09,'job.state',9,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(46,1.79561182735262513162e+09,'job.state',10,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(47,1.79561182736211276053e+09,'job.requeued',9,1,'{"from":"running","to":"pending","class":"user","explanation":"failed with exit code 7","retry":"user retry 1 of 1 in 0.1 s","delay_s":0.096,"held":false}');
INSERT INTO "events" VALUES(48,1.79561182736413717277e+09,'job.state',11,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(49,1.79561182738941574094e+09,'job.state',11,1,'{"from":"running","to":"stopping","reason":"cancel","by":"root"}');
INSERT INTO "events" VALUES(50,1.7956118273953733444e+09,'job.submitted',12,NULL,'{"name":"held","user":"root","gpus":0,"priority":5}');
INSERT INTO "events" VALUES(51,1.79561182739711332322e+09,'job.submitted',13,NULL,'{"name":"waits","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(52,1.79561182739876866345e+09,'job.submitted',14,NULL,'{"name":"never","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(53,1.7956118274001426697e+09,'job.submitted',15,NULL,'{"name":"later","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(54,1.79561182740152549741e+09,'job.submitted',16,NULL,'{"name":"wide","user":"root","gpus":4,"priority":0}');
INSERT INTO "events" VALUES(55,1.79561182740286159518e+09,'job.submitted',17,NULL,'{"name":"backoff","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(56,1.79561182740453910821e+09,'job.state',17,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(57,1.79561182742725110057e+09,'job.state',17,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(58,1795611827.44431,'job.requeued',17,1,'{"from":"running","to":"pending","class":"user","explanation":"failed with exit code 1","retry":"user retry 1 of 3 in 512.9 s","delay_s":512.938,"held":false}');
INSERT INTO "events" VALUES(59,1.79561182744803333284e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000003","drained":true,"reason":"fan","by":"root"}');
INSERT INTO "events" VALUES(60,1.79561182745001220702e+09,'job.submitted',18,NULL,'{"name":"keyed","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(61,1.79561182745172524454e+09,'job.submitted',19,NULL,'{"name":"starting","user":"root","gpus":0,"priority":0}');
INSERT INTO "events" VALUES(62,1.79561182746167850498e+09,'job.state',19,1,'{"from":"pending","to":"starting","gpus":[]}');
CREATE TABLE gpus (
    uuid         TEXT    NOT NULL PRIMARY KEY,
    idx          INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    memory_bytes INTEGER NOT NULL,
    simulated    INTEGER NOT NULL CHECK (simulated IN (0, 1)),
    present      INTEGER NOT NULL CHECK (present IN (0, 1)),
    drained      INTEGER NOT NULL DEFAULT 0 CHECK (drained IN (0, 1)),
    drain_reason TEXT
) WITHOUT ROWID;
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000000',0,'Simulated GPU',25769803776,1,1,0,NULL);
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000001',1,'Simulated GPU',25769803776,1,1,0,NULL);
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000002',2,'Simulated GPU',25769803776,1,1,0,NULL);
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000003',3,'Simulated GPU',25769803776,1,1,1,'fan');
CREATE TABLE idempotency (
    user   TEXT NOT NULL,
    key    TEXT NOT NULL,
    body   TEXT NOT NULL,  -- SHA-256 of the request
    answer TEXT NOT NULL CHECK (json_valid(answer)),
    at     REAL NOT NULL,
    PRIMARY KEY (user, key)
) WITHOUT ROWID;
INSERT INTO "idempotency" VALUES('root','k','af98f99ed29486f61e84b4eccd381d7a9c0b1674f8739d0be776c8991d01a6b4','[{"ids":[18],"array_id":null,"name":"keyed"}]',1.79561182745001220702e+09);
CREATE TABLE job_counts (
    state TEXT    NOT NULL PRIMARY KEY,
    n     INTEGER NOT NULL CHECK (n >= 0)
) WITHOUT ROWID;
INSERT INTO "job_counts" VALUES('cancelled',1);
INSERT INTO "job_counts" VALUES('failed',1);
INSERT INTO "job_counts" VALUES('lost',1);
INSERT INTO "job_counts" VALUES('pending',8);
INSERT INTO "job_counts" VALUES('running',1);
INSERT INTO "job_counts" VALUES('starting',1);
INSERT INTO "job_counts" VALUES('stopping',1);
INSERT INTO "job_counts" VALUES('succeeded',4);
INSERT INTO "job_counts" VALUES('timed_out',1);
CREATE TABLE jobs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    spec            TEXT    NOT NULL CHECK (json_valid(spec)),
    name            TEXT    NOT NULL,
    user            TEXT    NOT NULL,
    project         TEXT,
    labels          TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(labels)),
    state           TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN (
                        'pending', 'starting', 'running', 'stopping',
                        'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')),
    held            INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    hold_reason     TEXT,
    priority        INTEGER NOT NULL DEFAULT 0,
    gpus            INTEGER NOT NULL CHECK (gpus >= 0),
    time_limit_s    REAL CHECK (time_limit_s > 0),
    retries         INTEGER NOT NULL DEFAULT 0 CHECK (retries >= 0),
    begin_at        REAL,
    array_id        INTEGER,
    array_index     INTEGER,
    array_limit     INTEGER CHECK (array_limit > 0),
    retry_of        INTEGER REFERENCES jobs (id) ON DELETE SET NULL,
    root_id         INTEGER,
    deps_waiting    INTEGER NOT NULL DEFAULT 0 CHECK (deps_waiting >= 0),
    deps_failed     INTEGER NOT NULL DEFAULT 0 CHECK (deps_failed >= 0),
    submitted_at    REAL    NOT NULL,
    started_at      REAL,
    ended_at        REAL,
    deadline_at     REAL,
    -- end of a back-off: wall time for people, boot time for the decision
    backoff_at      REAL,
    backoff_boot    REAL,
    -- what was spent, by the budget it came from
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    spent_user      INTEGER NOT NULL DEFAULT 0 CHECK (spent_user >= 0),
    spent_infra     INTEGER NOT NULL DEFAULT 0 CHECK (spent_infra >= 0),
    spent_snooze    INTEGER NOT NULL DEFAULT 0 CHECK (spent_snooze >= 0),
    spent_requeue   INTEGER NOT NULL DEFAULT 0 CHECK (spent_requeue >= 0),
    exit_code       INTEGER,
    signal          INTEGER,
    class           TEXT,
    explanation     TEXT,
    gpu_ms          INTEGER NOT NULL DEFAULT 0 CHECK (gpu_ms >= 0),
    version         INTEGER NOT NULL DEFAULT 1,
    CHECK ((array_id IS NULL) = (array_index IS NULL)),
    CHECK ((ended_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost')))
);
INSERT INTO "jobs" VALUES(1,'{"argv":["/bin/sh","-c","echo done"],"shell":false,"cwd":"/","env":{},"name":"good","project":null,"labels":{"team":"vision"},"gpus":1,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','good','root',NULL,'{"team":"vision"}','succeeded',0,NULL,0,1,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182688148355483e+09,1.79561182696434211729e+09,1.79561182698979759217e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',105,4);
INSERT INTO "jobs" VALUES(2,'{"argv":["/bin/sh","-c","exit 7"],"shell":false,"cwd":"/","env":{},"name":"bad","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":1,"retry_delay_s":0.1,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','bad','root',NULL,'{}','failed',0,NULL,0,0,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182688449716567e+09,1.79561182706405210495e+09,1.79561182707900285717e+09,NULL,NULL,NULL,2,1,0,0,0,7,NULL,'user','failed with exit code 7',0,7);
INSERT INTO "jobs" VALUES(3,'{"argv":["/bin/sh","-c","sleep 60"],"shell":false,"cwd":"/","env":{},"name":"late","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":0.3,"grace_s":0.2,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','late','root',NULL,'{}','timed_out',0,NULL,0,0,0.3,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182689802122111e+09,1.79561182698574066159e+09,1.79561182729446268077e+09,NULL,NULL,NULL,1,0,0,0,0,143,NULL,'timeout','stopped at its wall-clock limit',0,5);
INSERT INTO "jobs" VALUES(4,'{"argv":["/bin/sh","-c","exit 0"],"shell":false,"cwd":"/","env":{},"name":"sweep","project":"p","labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":"0-2","hold":false,"begin_at":null,"log_max_bytes":268435456}','sweep','root','p','{}','succeeded',0,NULL,0,0,NULL,0,NULL,4,0,NULL,NULL,NULL,0,0,1.79561182690462017063e+09,1.79561182699652242657e+09,1.7956118270088937283e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',0,4);
INSERT INTO "jobs" VALUES(5,'{"argv":["/bin/sh","-c","exit 0"],"shell":false,"cwd":"/","env":{},"name":"sweep","project":"p","labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":"0-2","hold":false,"begin_at":null,"log_max_bytes":268435456}','sweep','root','p','{}','succeeded',0,NULL,0,0,NULL,0,NULL,4,1,NULL,NULL,NULL,0,0,1.79561182690462017063e+09,1.79561182699336862557e+09,1.7956118270024414062e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',0,4);
INSERT INTO "jobs" VALUES(6,'{"argv":["/bin/sh","-c","exit 0"],"shell":false,"cwd":"/","env":{},"name":"sweep","project":"p","labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":"0-2","hold":false,"begin_at":null,"log_max_bytes":268435456}','sweep','root','p','{}','succeeded',0,NULL,0,0,NULL,0,NULL,4,2,NULL,NULL,NULL,0,0,1.79561182690462017063e+09,1.79561182701584959027e+09,1.79561182702619051934e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',0,4);
INSERT INTO "jobs" VALUES(7,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"gone","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456}','gone','root',NULL,'{}','cancelled',1,'held at submission',0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182691138100618e+09,NULL,1.7956118269228386879e+09,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,'cancelled','cancelled by root: not wanted',0,2);
INSERT INTO "jobs" VALUES(8,'{"argv":["/bin/sh","-c","echo up; sleep 600"],"shell":false,"cwd":"/","env":{},"name":"lost","project":null,"labels":{},"gpus":1,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','lost','root',NULL,'{}','lost',0,NULL,0,1,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182708183574678e+09,1.79561182710852503775e+09,1.79561182719255471229e+09,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,'infra-node','the process that supervised the job was killed, so its end is unknown',109,4);
INSERT INTO "jobs" VALUES(9,'{"argv":["/bin/sh","-c","exit 7"],"shell":false,"cwd":"/","env":{},"name":"bad","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":1,"retry_delay_s":0.1,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','bad','root',NULL,'{}','pending',0,NULL,0,0,NULL,1,NULL,NULL,NULL,NULL,2,2,0,0,1.79561182729919576643e+09,1.79561182734983849525e+09,NULL,NULL,1.7956118274584064484e+09,1.15752221654651725653e+03,1,1,0,0,0,7,NULL,'user','failed with exit code 7',0,4);
INSERT INTO "jobs" VALUES(10,'{"argv":["/bin/sh","-c","echo up; sleep 600"],"shell":false,"cwd":"/","env":{},"name":"running","project":null,"labels":{},"gpus":2,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','running','root',NULL,'{}','running',0,NULL,0,2,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182730162596701e+09,1.79561182735262513162e+09,NULL,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,NULL,NULL,0,3);
INSERT INTO "jobs" VALUES(11,'{"argv":["/bin/sh","-c","trap '''' TERM; echo up; while :; do sleep 1; done"],"shell":false,"cwd":"/","env":{},"name":"stopping","project":null,"labels":{},"gpus":1,"priority":0,"time_limit_s":null,"grace_s":600.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','stopping','root',NULL,'{}','stopping',0,NULL,0,1,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182730591869355e+09,1.79561182736413717277e+09,NULL,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,NULL,NULL,0,4);
INSERT INTO "jobs" VALUES(12,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"held","project":null,"labels":{},"gpus":0,"priority":5,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456}','held','root',NULL,'{}','pending',1,'held at submission',5,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.7956118273953733444e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1);
INSERT INTO "jobs" VALUES(13,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"waits","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":["10"],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','waits','root',NULL,'{}','pending',0,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,1,0,1.79561182739711332322e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1);
INSERT INTO "jobs" VALUES(14,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"never","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":["1"],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','never','root',NULL,'{}','pending',0,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,1,1.79561182739876866345e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1);
INSERT INTO "jobs" VALUES(15,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"later","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":"2100-01-01T00:00:00Z","log_max_bytes":268435456}','later','root',NULL,'{}','pending',0,NULL,0,0,NULL,0,4102444800.0,NULL,NULL,NULL,NULL,NULL,0,0,1.7956118274001426697e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1);
INSERT INTO "jobs" VALUES(16,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"wide","project":null,"labels":{},"gpus":4,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','wide','root',NULL,'{}','pending',0,NULL,0,4,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182740152549741e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1);
INSERT INTO "jobs" VALUES(17,'{"argv":["false"],"shell":false,"cwd":"/","env":{},"name":"backoff","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":3,"retry_delay_s":3600.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456}','backoff','root',NULL,'{}','pending',0,NULL,0,0,NULL,3,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182740286159518e+09,1.79561182742725110057e+09,NULL,NULL,1.79561234038190650937e+09,1.67044571676780878987e+03,1,1,0,0,0,1,NULL,'user','failed with exit code 1',0,4);
INSERT INTO "jobs" VALUES(18,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"keyed","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456}','keyed','root',NULL,'{}','pending',1,'held at submission',0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182745001220702e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1);
INSERT INTO "jobs" VALUES(19,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"starting","project":null,"labels":{},"gpus":0,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456}','starting','root',NULL,'{}','starting',0,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79561182745172524454e+09,NULL,NULL,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,NULL,NULL,0,1);
CREATE TABLE leases (
    gpu_uuid   TEXT NOT NULL PRIMARY KEY REFERENCES gpus (uuid),
    attempt_id TEXT NOT NULL REFERENCES attempts (id),
    since      REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO "leases" VALUES('GPU-00000000-51d0-0000-0000-000000000000','9b7ea052e98dc37bb18c0ff47b69b778',1.79561182730461454393e+09);
INSERT INTO "leases" VALUES('GPU-00000000-51d0-0000-0000-000000000001','9b7ea052e98dc37bb18c0ff47b69b778',1.79561182730461454393e+09);
INSERT INTO "leases" VALUES('GPU-00000000-51d0-0000-0000-000000000002','491e4952da11801afe9f84983db2797a',1.79561182731764864923e+09);
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('boot_id','da9a6d8f-7482-4a59-99e6-f27738265d3b');
CREATE TABLE transitions (
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    PRIMARY KEY (from_state, to_state)
) WITHOUT ROWID;
INSERT INTO "transitions" VALUES('pending','cancelled');
INSERT INTO "transitions" VALUES('pending','starting');
INSERT INTO "transitions" VALUES('running','cancelled');
INSERT INTO "transitions" VALUES('running','failed');
INSERT INTO "transitions" VALUES('running','lost');
INSERT INTO "transitions" VALUES('running','pending');
INSERT INTO "transitions" VALUES('running','stopping');
INSERT INTO "transitions" VALUES('running','succeeded');
INSERT INTO "transitions" VALUES('running','timed_out');
INSERT INTO "transitions" VALUES('starting','cancelled');
INSERT INTO "transitions" VALUES('starting','failed');
INSERT INTO "transitions" VALUES('starting','lost');
INSERT INTO "transitions" VALUES('starting','pending');
INSERT INTO "transitions" VALUES('starting','running');
INSERT INTO "transitions" VALUES('starting','stopping');
INSERT INTO "transitions" VALUES('starting','succeeded');
INSERT INTO "transitions" VALUES('starting','timed_out');
INSERT INTO "transitions" VALUES('stopping','cancelled');
INSERT INTO "transitions" VALUES('stopping','failed');
INSERT INTO "transitions" VALUES('stopping','lost');
INSERT INTO "transitions" VALUES('stopping','pending');
INSERT INTO "transitions" VALUES('stopping','succeeded');
INSERT INTO "transitions" VALUES('stopping','timed_out');
CREATE INDEX jobs_ready ON jobs (priority DESC, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0;
CREATE INDEX jobs_ready_cpu ON jobs (priority DESC, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus = 0;
CREATE INDEX jobs_queue ON jobs (priority DESC, id) WHERE state = 'pending';
CREATE INDEX jobs_live ON jobs (id) WHERE state IN ('starting', 'running', 'stopping');
CREATE INDEX jobs_backoff ON jobs (backoff_boot) WHERE state = 'pending' AND backoff_boot IS NOT NULL;
CREATE INDEX jobs_begin ON jobs (begin_at) WHERE state = 'pending' AND begin_at IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_user ON jobs (user, id);
CREATE INDEX jobs_name ON jobs (name, id);
CREATE INDEX jobs_project ON jobs (project, id) WHERE project IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_retry_of ON jobs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX jobs_root ON jobs (root_id) WHERE root_id IS NOT NULL;
CREATE UNIQUE INDEX jobs_array ON jobs (array_id, array_index) WHERE array_id IS NOT NULL;
CREATE TRIGGER jobs_legal_move BEFORE UPDATE OF state ON jobs
WHEN OLD.state <> NEW.state
     AND NOT EXISTS (SELECT 1 FROM transitions WHERE from_state = OLD.state AND to_state = NEW.state)
BEGIN
    SELECT RAISE(ABORT, 'illegal transition of a job');
END;
CREATE TRIGGER jobs_begin_pending BEFORE INSERT ON jobs WHEN NEW.state <> 'pending'
BEGIN
    SELECT RAISE(ABORT, 'a job begins as pending');
END;
CREATE TRIGGER jobs_count_insert AFTER INSERT ON jobs
BEGIN
    UPDATE job_counts SET n = n + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER jobs_count_delete AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET n = n - 1 WHERE state = OLD.state;
END;
CREATE TRIGGER jobs_count_move AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state
BEGIN
    UPDATE job_counts SET n = n - 1 WHERE state = OLD.state;
    UPDATE job_counts SET n = n + 1 WHERE state = NEW.state;
END;
CREATE INDEX dependencies_on ON dependencies (on_job_id) WHERE state = 'waiting';
CREATE UNIQUE INDEX attempts_one_live ON attempts (job_id) WHERE state <> 'ended';
CREATE INDEX leases_attempt ON leases (attempt_id);
CREATE TRIGGER leases_need_life BEFORE INSERT ON leases
WHEN NOT EXISTS (SELECT 1 FROM attempts WHERE id = NEW.attempt_id AND state <> 'ended')
BEGIN
    SELECT RAISE(ABORT, 'a lease needs a live attempt');
END;
CREATE TRIGGER attempts_end_without_leases BEFORE UPDATE OF state ON attempts
WHEN NEW.state = 'ended' AND EXISTS (SELECT 1 FROM leases WHERE attempt_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'an attempt ends after its leases');
END;
CREATE TRIGGER attempts_end_for_good BEFORE UPDATE OF state ON attempts
WHEN OLD.state = 'ended' AND NEW.state <> 'ended'
BEGIN
    SELECT RAISE(ABORT, 'an ended attempt stays ended');
END;
CREATE INDEX events_job ON events (job_id, id) WHERE job_id IS NOT NULL;
CREATE TRIGGER events_do_not_change BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;
CREATE INDEX idempotency_at ON idempotency (at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',62);
INSERT INTO "sqlite_sequence" VALUES('jobs',19);
COMMIT;
PRAGMA user_version = 1;
