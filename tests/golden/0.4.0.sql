BEGIN TRANSACTION;
CREATE TABLE array_dependencies (
    job_id      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    on_array_id INTEGER NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('ok', 'any', 'fail')),
    waiting     INTEGER NOT NULL CHECK (waiting >= 0),
    failed      INTEGER NOT NULL CHECK (failed >= 0),
    PRIMARY KEY (job_id, on_array_id, kind),
    CHECK (on_array_id < job_id)
) WITHOUT ROWID;
CREATE TABLE arrays (
    id       INTEGER NOT NULL PRIMARY KEY,
    ready    INTEGER NOT NULL CHECK (ready >= 0),
    queue    TEXT    NOT NULL,
    gpus     INTEGER NOT NULL,
    order_at REAL    NOT NULL,
    due_at   REAL    NOT NULL,
    alone_at REAL    NOT NULL,
    short_s  REAL    NOT NULL
);
INSERT INTO "arrays" VALUES(22,0,'default',0,1.79563938793162202831e+09,1.79572578793162202837e+09,1.79823138793162202835e+09,86400.0);
CREATE TABLE attempt_use (
    attempt_id       TEXT    NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
    gpu_uuid         TEXT    NOT NULL,
    sampled_ms       INTEGER NOT NULL DEFAULT 0,
    idle_ms          INTEGER NOT NULL DEFAULT 0,
    energy_mj        INTEGER,
    energy_source    TEXT,
    first_use_at     REAL,
    max_utilization  REAL,
    max_memory_bytes INTEGER,
    PRIMARY KEY (attempt_id, gpu_uuid)
) WITHOUT ROWID;
INSERT INTO "attempt_use" VALUES('a5f666eb245f9a5bc83166dc5a28e7b4','GPU-00000000-51d0-0000-0000-000000000000',0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "attempt_use" VALUES('b2df637d9c2f0fbb7c8ccd7801bc0c34','GPU-00000000-51d0-0000-0000-000000000000',0,0,NULL,NULL,NULL,NULL,NULL);
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
    log_dropped_bytes INTEGER NOT NULL DEFAULT 0, first_progress_at REAL, progress_at REAL, first_step INTEGER CHECK (first_step >= 0), step INTEGER CHECK (step >= 0), total_steps INTEGER CHECK (total_steps >= 0), checkpoint_at REAL, checkpoint_step INTEGER CHECK (checkpoint_step >= 0), metrics TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metrics)), knobs TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(knobs)), applied_version INTEGER NOT NULL DEFAULT 0, progress_event_at REAL, startable_at REAL, gap_cause TEXT, price_micros INTEGER CHECK (price_micros >= 0), signature TEXT, retries_saved INTEGER NOT NULL DEFAULT 0 CHECK (retries_saved >= 0), log_removed INTEGER NOT NULL DEFAULT 0 CHECK (log_removed IN (0, 1)), start TEXT, stop_note TEXT, spared_ms INTEGER NOT NULL DEFAULT 0 CHECK (spared_ms >= 0),
    UNIQUE (job_id, number),
    CHECK ((class IS NULL) = (state <> 'ended'))
) WITHOUT ROWID;
INSERT INTO "attempts" VALUES('042367cb1cc8a56af2afed37db8f4595',20,1,'ended','[]',0,1.7956393877692608833e+09,28717.833070361,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10022,2871614,10275,1.79563938782842087748e+09,NULL,1.79563938785849094392e+09,2.99619680008618161082e-02,NULL,NULL,NULL,NULL,1,NULL,'user','exit-user','["exit code 1"]','failed with exit code 1','user retry 1 of 3 in 640.8 s',0,13017088,0.000539,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.79563938775069046023e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('07795d93ea6b963f7bd1d62d548a915f',14,1,'stopping','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000002","index":2,"cpus":null,"memory_bytes":null,"total_bytes":null}]',1,1.79563938745001602176e+09,28717.513825466,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10023,2871614,10199,1795639387.51746,NULL,NULL,NULL,'cancel','root',600.0,1.79563938757392215729e+09,NULL,NULL,NULL,NULL,'[]',NULL,NULL,0,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.7956393874352340698e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('1681e0488c1fd0dfff5a12fff3e2b620',10,1,'ended','[]',0,1.7956393866753358841e+09,28716.739145444,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10015,2871610,10093,1.7956393867634358406e+09,NULL,1.79563938728757238388e+09,0.524093891002849,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',0,13332480,0.001758,34,0,1.79563938678523182866e+09,1.79563938678523182866e+09,2,2,9,NULL,NULL,'{"loss":0.1}','{}',0,1.79563938684897732734e+09,1.79563938666351389887e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('43c13185a312c6da1d10731dc7d160d3',2,2,'ended','[]',0,1.79563938618807172778e+09,28716.251881245,'da9a6d8f-7482-4a59-99e6-f27738265d3b',9985,2871579,10042,1.79563938621433258052e+09,NULL,1.79563938621823430061e+09,3.86799899933976121246e-03,NULL,NULL,NULL,NULL,7,NULL,'user','exit-user','["exit code 7"]','failed with exit code 7','all 1 user retries are spent',0,13336576,8.03999999999999918724e-04,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.79563938618807172778e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('4ddc4f5dd33afdd80c340a78f5f8aed3',6,1,'ended','[]',0,1.7956393860481076241e+09,28716.111918162,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10015,2871610,10038,1.79563938618210315709e+09,NULL,1.79563938619226026532e+09,1.00596230004157405346e-02,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',0,13156352,0.000692,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.7956393860481076241e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('5066c04ca4363d9a5239a36047f54d88',3,1,'ended','[]',0,1.79563938595283842086e+09,28716.016647847,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10004,2871599,10016,1.79563938603971838948e+09,1.79563938635791468618e+09,1.79563938639159035681e+09,3.51809339001192711293e-01,'timeout',NULL,NULL,1.79563938635107159615e+09,NULL,15,'timeout','we-timed-out','["ended by SIGTERM"]','stopped at its wall-clock limit','class timeout is not retried: it would end the same way again',0,13160448,1.65499999999999978725e-03,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.79563938594783663749e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('603470aed8dc00bda633ad5ae8a37432',2,1,'ended','[]',0,1.79563938591461420054e+09,28715.978423892,'da9a6d8f-7482-4a59-99e6-f27738265d3b',9985,2871579,10011,1.79563938595617341993e+09,NULL,1.79563938599612689015e+09,3.98364950015093199908e-02,NULL,NULL,NULL,NULL,7,NULL,'user','exit-user','["exit code 7"]','failed with exit code 7','user retry 1 of 1 in 0.1 s',0,13160448,0.00069,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.79563938591002416611e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('62ba6e0856542abae47c33b73030626a',4,1,'ended','[]',0,1.7956393859897191524e+09,28716.053529215,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10013,2871608,10032,1.79563938612933254239e+09,NULL,1.79563938615875625607e+09,2.93468559975735843181e-02,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',0,13316096,6.5699999999999992347e-04,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.7956393859897191524e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('6b2d6030109a2e76f6b45782642c1086',9,2,'ended','[]',0,1.7956393868330979347e+09,28716.896907594,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10023,2871614,10109,1.7956393869144728184e+09,NULL,1.79563938691828680043e+09,3.77853099780622869729e-03,NULL,NULL,NULL,NULL,7,NULL,'user','exit-user','["exit code 7"]','failed with exit code 7','all 1 user retries are spent',0,13316096,0.00078,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.7956393868262314796e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('7bd6500569f766087b4517f2025102dd',9,1,'ended','[]',0,1.79563938663311600685e+09,28716.696925443,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10023,2871614,10082,1.79563938667998623842e+09,NULL,1.79563938669963049895e+09,1.96072740000090561807e-02,NULL,NULL,NULL,NULL,7,NULL,'user','exit-user','["exit code 7"]','failed with exit code 7','user retry 1 of 1 in 0.1 s',0,13316096,0.000888,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.79563938662499547006e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('872610aaa82a260944cb1ae6b29e5c1b',12,1,'ended','[]',0,1.7956393866753358841e+09,28716.739145444,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10026,2871616,10095,1.79563938677779030795e+09,NULL,1.79563938697748970985e+09,1.86630732001503929495e-01,'halving','sweep 10',45.0,1.79563938694657421113e+09,NULL,15,'stopped-early','we-stopped-early','["ended by SIGTERM"]','stopped early: rung 2, value 0.3, 3rd of 3; the best goes on','its sweep stopped it',0,13017088,0.001739,34,0,1.79563938682416892049e+09,1.79563938682416892049e+09,2,2,9,NULL,NULL,'{"loss":0.3}','{}',0,1.79563938684897732734e+09,1.79563938666351389887e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off','stopped early: rung 2, value 0.3, 3rd of 3; the best goes on',0);
INSERT INTO "attempts" VALUES('a5f666eb245f9a5bc83166dc5a28e7b4',1,1,'ended','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0,"cpus":null,"memory_bytes":null,"total_bytes":null}]',1,1.79563938589134955404e+09,28715.955159043,'da9a6d8f-7482-4a59-99e6-f27738265d3b',9986,2871582,10009,1.79563938594970607751e+09,NULL,1.79563938597432088848e+09,2.44792000012239441275e-02,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',98,13160448,7.55999999999999944613e-04,5,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.7956393858712730408e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('b2df637d9c2f0fbb7c8ccd7801bc0c34',8,1,'ended','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0,"cpus":null,"memory_bytes":null,"total_bytes":null}]',1,1.79563938623712611203e+09,28716.300935629,'da9a6d8f-7482-4a59-99e6-f27738265d3b',9985,2871579,10047,1.79563938624971103667e+09,NULL,1.79563938659433507917e+09,0.0,NULL,NULL,NULL,NULL,NULL,NULL,'infra-node','shim-lost','["no exit record, and the supervising process is gone"]','the process that supervised the job was killed, so its end is unknown','it may have run, and --no-requeue forbids a second run',357,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.7956393862269427776e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('c26e30aedbea5a6e4b1ff98884d77912',5,1,'ended','[]',0,1.7956393859897191524e+09,28716.053529215,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10023,2871614,10037,1.79563938618156194691e+09,NULL,1.79563938619208788866e+09,1.04566059999342542141e-02,NULL,NULL,NULL,NULL,0,NULL,'ok','exit-0','["exit code 0"]','finished','it succeeded',0,13316096,0.000753,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.7956393859897191524e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('cae1c45e4715b0b8c5acaa137dcf02dc',13,1,'running','[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0,"cpus":null,"memory_bytes":null,"total_bytes":null},{"uuid":"GPU-00000000-51d0-0000-0000-000000000001","index":1,"cpus":null,"memory_bytes":null,"total_bytes":null}]',2,1.7956393873362467289e+09,28717.400056195,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10015,2871610,10181,1.79563938742854809762e+09,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,0,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,1.79563938730594730374e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off',NULL,0);
INSERT INTO "attempts" VALUES('d2d524b594c1ae76b0311991df1d4e7d',11,1,'ended','[]',0,1.7956393866753358841e+09,28716.739145444,'da9a6d8f-7482-4a59-99e6-f27738265d3b',10013,2871608,10092,1.79563938675918865206e+09,NULL,1.79563938697017240518e+09,2.01864968999871052801e-01,'halving','sweep 10',45.0,1.79563938693351459506e+09,NULL,15,'stopped-early','we-stopped-early','["ended by SIGTERM"]','stopped early: rung 2, value 0.2, 2nd of 2; the best goes on','its sweep stopped it',0,13316096,0.002081,34,0,1.79563938681370472904e+09,1.79563938681370472904e+09,2,2,9,NULL,NULL,'{"loss":0.2}','{}',0,1.79563938684897732734e+09,1.79563938666351389887e+09,NULL,NULL,NULL,0,0,'cold: warm starts are off','stopped early: rung 2, value 0.2, 2nd of 2; the best goes on',0);
INSERT INTO "attempts" VALUES('ffffffffffffffffffffffffffffffff',5022,1,'starting','[]',0,1.79563938795893716805e+09,1.0,'da9a6d8f-7482-4a59-99e6-f27738265d3b',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,0,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}',0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,0);
CREATE TABLE budgets (
    scope         TEXT NOT NULL CHECK (scope IN ('user', 'project')),
    name          TEXT NOT NULL,
    period        TEXT NOT NULL CHECK (period IN ('day', 'week', 'month')),
    amount_micros INTEGER CHECK (amount_micros >= 0),
    gpu_hours     REAL CHECK (gpu_hours >= 0),
    action        TEXT NOT NULL CHECK (action IN ('warn', 'refuse')),
    set_by        TEXT NOT NULL,
    set_at        REAL NOT NULL,
    PRIMARY KEY (scope, name),
    CHECK ((amount_micros IS NULL) <> (gpu_hours IS NULL))
) WITHOUT ROWID;
CREATE TABLE curves (
    job_id INTEGER NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    stride INTEGER NOT NULL DEFAULT 1 CHECK (stride >= 1),
    seen   INTEGER NOT NULL DEFAULT 0,
    kept   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO "curves" VALUES(10,1,1,1);
INSERT INTO "curves" VALUES(11,1,1,1);
INSERT INTO "curves" VALUES(12,1,1,1);
CREATE TABLE demand (
    at    REAL NOT NULL PRIMARY KEY,
    kind  TEXT NOT NULL CHECK (kind IN ('none', 'fits', 'blocked')),
    cause TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
INSERT INTO "demand" VALUES(1.79563938772452735903e+09,'blocked','');
CREATE TABLE dependencies (
    job_id    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    on_job_id INTEGER NOT NULL,
    kind      TEXT    NOT NULL CHECK (kind IN ('ok', 'any', 'fail')),
    state     TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'met', 'failed')),
    PRIMARY KEY (job_id, on_job_id, kind),
    CHECK (on_job_id < job_id)  -- a job waits only for older ones: no cycles
) WITHOUT ROWID;
INSERT INTO "dependencies" VALUES(16,13,'ok','waiting');
INSERT INTO "dependencies" VALUES(17,1,'fail','failed');
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    type    TEXT NOT NULL,
    job_id  INTEGER,
    attempt INTEGER,
    data    TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data))
);
INSERT INTO "events" VALUES(1,1.7956393854455657005e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0,"present":true}');
INSERT INTO "events" VALUES(2,1.7956393854455657005e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000001","index":1,"present":true}');
INSERT INTO "events" VALUES(3,1.7956393854455657005e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000002","index":2,"present":true}');
INSERT INTO "events" VALUES(4,1.7956393854455657005e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000003","index":3,"present":true}');
INSERT INTO "events" VALUES(5,1.7956393858712730408e+09,'job.submitted',1,NULL,'{"name":"good","user":"root","gpus":1,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(6,1.79563938589134955404e+09,'job.state',1,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0}]}');
INSERT INTO "events" VALUES(7,1.79563938590141701696e+09,'job.submitted',2,NULL,'{"name":"bad","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(8,1.79563938591461420054e+09,'job.state',2,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(9,1.7956393859207174778e+09,'job.state',1,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(10,1.79563938592109799386e+09,'job.submitted',3,NULL,'{"name":"late","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(11,1.79563938593566441541e+09,'job.state',2,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(12,1.79563938595283842086e+09,'job.state',3,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(13,1795639385.95998,'job.submitted',4,NULL,'{"name":"sweep","user":"root","gpus":0,"priority":0,"queue":"default","array_id":4,"array_index":0}');
INSERT INTO "events" VALUES(14,1795639385.95998,'job.submitted',5,NULL,'{"name":"sweep","user":"root","gpus":0,"priority":0,"queue":"default","array_id":4,"array_index":1}');
INSERT INTO "events" VALUES(15,1795639385.95998,'job.submitted',6,NULL,'{"name":"sweep","user":"root","gpus":0,"priority":0,"queue":"default","array_id":4,"array_index":2}');
INSERT INTO "events" VALUES(16,1.79563938598943114276e+09,'job.state',3,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(17,1.79563938598974061006e+09,'job.state',1,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(18,1.7956393859897191524e+09,'job.state',4,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(19,1.7956393859897191524e+09,'job.state',5,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(20,1.7956393860092828273e+09,'job.submitted',7,NULL,'{"name":"gone","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(21,1.79563938604812765118e+09,'job.requeued',2,1,'{"from":"running","to":"pending","class":"user","explanation":"failed with exit code 7","retry":"user retry 1 of 1 in 0.1 s","delay_s":0.078,"held":false}');
INSERT INTO "events" VALUES(22,1.7956393860481076241e+09,'job.state',6,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(23,1.79563938606957125662e+09,'job.state',4,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(24,1.79563938607001304624e+09,'job.state',7,NULL,'{"from":"pending","to":"cancelled","class":"cancelled","exit_code":null,"explanation":"cancelled by root: not wanted"}');
INSERT INTO "events" VALUES(25,1.79563938616395854953e+09,'job.state',6,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(26,1.79563938617333507534e+09,'job.state',5,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(27,1.79563938618808579443e+09,'job.state',4,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(28,1.79563938618807172778e+09,'job.state',2,2,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(29,1.79563938619250273703e+09,'job.state',5,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(30,1.79563938619256782528e+09,'job.state',6,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(31,1.7956393862007117272e+09,'job.state',2,2,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(32,1.79563938621854829783e+09,'job.state',2,2,'{"from":"running","to":"failed","class":"user","exit_code":7,"explanation":"failed with exit code 7"}');
INSERT INTO "events" VALUES(33,1.7956393862269427776e+09,'job.submitted',8,NULL,'{"name":"lost","user":"root","gpus":1,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(34,1.79563938623712611203e+09,'job.state',8,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0}]}');
INSERT INTO "events" VALUES(35,1.79563938624971103667e+09,'job.state',8,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(36,1.79563938639231872556e+09,'job.state',3,1,'{"from":"running","to":"timed_out","class":"timeout","exit_code":null,"explanation":"stopped at its wall-clock limit"}');
INSERT INTO "events" VALUES(37,1.79563938659433507917e+09,'job.state',8,1,'{"from":"running","to":"lost","class":"infra-node","exit_code":null,"explanation":"the process that supervised the job was killed, so its end is unknown"}');
INSERT INTO "events" VALUES(38,1.79563938662499547006e+09,'job.submitted',9,NULL,'{"name":"bad","user":"root","gpus":0,"priority":0,"queue":"default","retry_of":2}');
INSERT INTO "events" VALUES(39,1.79563938663311600685e+09,'job.state',9,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(40,1.79563938664535617832e+09,'job.submitted',10,NULL,'{"name":"swept","user":"root","gpus":0,"priority":0,"queue":"default","array_id":10,"array_index":0}');
INSERT INTO "events" VALUES(41,1.79563938664535617832e+09,'job.submitted',11,NULL,'{"name":"swept","user":"root","gpus":0,"priority":0,"queue":"default","array_id":10,"array_index":1}');
INSERT INTO "events" VALUES(42,1.79563938664535617832e+09,'job.submitted',12,NULL,'{"name":"swept","user":"root","gpus":0,"priority":0,"queue":"default","array_id":10,"array_index":2}');
INSERT INTO "events" VALUES(43,1.79563938666117620468e+09,'job.state',9,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(44,1.7956393866753358841e+09,'job.state',10,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(45,1.7956393866753358841e+09,'job.state',11,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(46,1.7956393866753358841e+09,'job.state',12,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(47,1.79563938672100210187e+09,'job.state',10,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(48,1.79563938672107362747e+09,'job.state',11,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(49,1.79563938672522759431e+09,'job.state',12,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(50,1.79563938674842786787e+09,'job.requeued',9,1,'{"from":"running","to":"pending","class":"user","explanation":"failed with exit code 7","retry":"user retry 1 of 1 in 0.1 s","delay_s":0.078,"held":false}');
INSERT INTO "events" VALUES(51,1.7956393868330979347e+09,'job.state',9,2,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(52,1.79563938684897732734e+09,'job.progress',10,1,'{"step":2,"total":9,"metrics":{"loss":0.1},"checkpoint_step":null}');
INSERT INTO "events" VALUES(53,1.79563938684897732734e+09,'job.progress',11,1,'{"step":2,"total":9,"metrics":{"loss":0.2},"checkpoint_step":null}');
INSERT INTO "events" VALUES(54,1.79563938684897732734e+09,'job.progress',12,1,'{"step":2,"total":9,"metrics":{"loss":0.3},"checkpoint_step":null}');
INSERT INTO "events" VALUES(55,1.79563938686054253577e+09,'job.state',9,2,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(56,1.79563938687089681622e+09,'job.state',11,1,'{"from":"running","to":"stopping","reason":"halving","by":"sweep 10"}');
INSERT INTO "events" VALUES(57,1.79563938687089681622e+09,'job.state',12,1,'{"from":"running","to":"stopping","reason":"halving","by":"sweep 10"}');
INSERT INTO "events" VALUES(58,1.7956393869331047535e+09,'job.state',9,2,'{"from":"running","to":"failed","class":"user","exit_code":7,"explanation":"failed with exit code 7"}');
INSERT INTO "events" VALUES(59,1.79563938697064924242e+09,'job.state',11,1,'{"from":"stopping","to":"cancelled","class":"stopped-early","exit_code":null,"explanation":"stopped early: rung 2, value 0.2, 2nd of 2; the best goes on"}');
INSERT INTO "events" VALUES(60,1.79563938698290324206e+09,'job.state',12,1,'{"from":"stopping","to":"cancelled","class":"stopped-early","exit_code":null,"explanation":"stopped early: rung 2, value 0.3, 3rd of 3; the best goes on"}');
INSERT INTO "events" VALUES(61,1.79563938728803396223e+09,'job.state',10,1,'{"from":"running","to":"succeeded","class":"ok","exit_code":0,"explanation":"finished"}');
INSERT INTO "events" VALUES(62,1.79563938730594730374e+09,'job.submitted',13,NULL,'{"name":"running","user":"root","gpus":2,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(63,1.7956393873362467289e+09,'job.state',13,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000000","index":0},{"uuid":"GPU-00000000-51d0-0000-0000-000000000001","index":1}]}');
INSERT INTO "events" VALUES(64,1.79563938738388729097e+09,'job.submitted',14,NULL,'{"name":"stopping","user":"root","gpus":1,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(65,1.79563938742854809762e+09,'job.state',13,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(66,1.79563938745001602176e+09,'job.state',14,1,'{"from":"pending","to":"starting","gpus":[{"uuid":"GPU-00000000-51d0-0000-0000-000000000002","index":2}]}');
INSERT INTO "events" VALUES(67,1795639387.51746,'job.state',14,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(68,1.79563938757392215729e+09,'job.state',14,1,'{"from":"running","to":"stopping","reason":"cancel","by":"root"}');
INSERT INTO "events" VALUES(69,1.79563938762189340592e+09,'job.submitted',15,NULL,'{"name":"held","user":"root","gpus":0,"priority":5,"queue":"default"}');
INSERT INTO "events" VALUES(70,1.79563938763595986368e+09,'job.submitted',16,NULL,'{"name":"waits","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(71,1.79563938766663765906e+09,'job.submitted',17,NULL,'{"name":"never","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(72,1.79563938768080520627e+09,'job.submitted',18,NULL,'{"name":"later","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(73,1.79563938770038270952e+09,'job.submitted',19,NULL,'{"name":"wide","user":"root","gpus":4,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(74,1.79563938772566676141e+09,'job.submitted',20,NULL,'{"name":"backoff","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(75,1.7956393877692608833e+09,'job.state',20,1,'{"from":"pending","to":"starting","gpus":[]}');
INSERT INTO "events" VALUES(76,1.79563938781812310217e+09,'job.state',20,1,'{"from":"starting","to":"running"}');
INSERT INTO "events" VALUES(77,1.79563938785902714725e+09,'job.requeued',20,1,'{"from":"running","to":"pending","class":"user","explanation":"failed with exit code 1","retry":"user retry 1 of 3 in 640.8 s","delay_s":640.845,"held":false}');
INSERT INTO "events" VALUES(78,1.79563938790804219244e+09,'gpu.state',NULL,NULL,'{"uuid":"GPU-00000000-51d0-0000-0000-000000000003","drained":true,"reason":"fan","by":"root"}');
INSERT INTO "events" VALUES(79,1.795639387927210331e+09,'job.submitted',21,NULL,'{"name":"keyed","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(80,1.79563938793162202831e+09,'job.submitted',22,NULL,'{"name":"folded","user":"root","gpus":0,"priority":0,"queue":"default","array_id":22,"array_index":0}');
INSERT INTO "events" VALUES(81,1.79563938793162202831e+09,'array.submitted',22,NULL,'{"name":"folded","user":"root","gpus":0,"priority":0,"queue":"default","array":"0-4999","jobs":5000,"last_id":5021}');
INSERT INTO "events" VALUES(82,1.79563938794135046004e+09,'job.submitted',5022,NULL,'{"name":"starting","user":"root","gpus":0,"priority":0,"queue":"default"}');
INSERT INTO "events" VALUES(83,1.79563938795899915691e+09,'job.state',5022,1,'{"from":"pending","to":"starting","gpus":[]}');
CREATE TABLE folds (
    id               INTEGER PRIMARY KEY,          -- the first of the members
    last_id          INTEGER NOT NULL,
    array_id         INTEGER NOT NULL,
    state            TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'cancelled')),
    spec             TEXT    NOT NULL CHECK (json_valid(spec)),
    name             TEXT    NOT NULL,
    user             TEXT    NOT NULL,
    project          TEXT,
    labels           TEXT    NOT NULL CHECK (json_valid(labels)),
    held             INTEGER NOT NULL CHECK (held IN (0, 1)),
    hold_reason      TEXT,
    priority         INTEGER NOT NULL,
    queue            TEXT    NOT NULL,
    gpus             INTEGER NOT NULL CHECK (gpus >= 0),
    gpu_type         TEXT,
    gpu_memory_bytes INTEGER CHECK (gpu_memory_bytes > 0),
    exclusive        INTEGER NOT NULL CHECK (exclusive IN (0, 1)),
    time_limit_s     REAL CHECK (time_limit_s > 0),
    retries          INTEGER NOT NULL CHECK (retries >= 0),
    begin_at         REAL,
    array_limit      INTEGER CHECK (array_limit > 0),
    deps_waiting     INTEGER NOT NULL CHECK (deps_waiting >= 0),
    deps_failed      INTEGER NOT NULL CHECK (deps_failed >= 0),
    submitted_at     REAL    NOT NULL,
    ended_at         REAL,
    class            TEXT,
    explanation      TEXT,
    preemptible      INTEGER NOT NULL CHECK (preemptible IN (0, 1)),
    urgent           INTEGER NOT NULL CHECK (urgent IN (0, 1)),
    signature        TEXT    NOT NULL,
    predicted_s      REAL CHECK (predicted_s > 0),
    order_at         REAL    NOT NULL,
    lane             INTEGER NOT NULL,
    due_at           REAL    NOT NULL,
    alone_at         REAL    NOT NULL,
    short_s          REAL    NOT NULL,
    version          INTEGER NOT NULL,
    CHECK (last_id >= id AND id > array_id),
    CHECK ((ended_at IS NOT NULL) = (state = 'cancelled'))
);
INSERT INTO "folds" VALUES(23,5021,22,'pending','{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"folded","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":"0-4999","hold":true,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','folded','root',NULL,'{}',1,'held at submission',0,'default',0,NULL,NULL,0,NULL,0,NULL,NULL,0,0,1.79563938793162202831e+09,NULL,NULL,NULL,0,0,'dfaa16ea4d5c648a',NULL,1.79563938793162202831e+09,1,1.79572578793162202837e+09,1.79823138793162202835e+09,86400.0,1);
CREATE TABLE gpu_prices (
    gpu_uuid TEXT NOT NULL,
    at       REAL NOT NULL,
    micros   INTEGER CHECK (micros >= 0),
    currency TEXT,
    model    TEXT NOT NULL,
    source   TEXT,
    as_of    TEXT,
    PRIMARY KEY (gpu_uuid, at)
) WITHOUT ROWID;
INSERT INTO "gpu_prices" VALUES('GPU-00000000-51d0-0000-0000-000000000000',1.7956393854455657005e+09,NULL,NULL,'Simulated GPU',NULL,NULL);
INSERT INTO "gpu_prices" VALUES('GPU-00000000-51d0-0000-0000-000000000001',1.7956393854455657005e+09,NULL,NULL,'Simulated GPU',NULL,NULL);
INSERT INTO "gpu_prices" VALUES('GPU-00000000-51d0-0000-0000-000000000002',1.7956393854455657005e+09,NULL,NULL,'Simulated GPU',NULL,NULL);
INSERT INTO "gpu_prices" VALUES('GPU-00000000-51d0-0000-0000-000000000003',1.7956393854455657005e+09,NULL,NULL,'Simulated GPU',NULL,NULL);
CREATE TABLE gpu_service (
    gpu_uuid TEXT    NOT NULL,
    at       REAL    NOT NULL,
    present  INTEGER NOT NULL CHECK (present IN (0, 1)),
    drained  TEXT,   -- why, if it is
    sick     TEXT,   -- what it says, if it does not answer properly
    PRIMARY KEY (gpu_uuid, at)
) WITHOUT ROWID;
INSERT INTO "gpu_service" VALUES('GPU-00000000-51d0-0000-0000-000000000000',1.7956393854455657005e+09,1,NULL,NULL);
INSERT INTO "gpu_service" VALUES('GPU-00000000-51d0-0000-0000-000000000001',1.7956393854455657005e+09,1,NULL,NULL);
INSERT INTO "gpu_service" VALUES('GPU-00000000-51d0-0000-0000-000000000002',1.7956393854455657005e+09,1,NULL,NULL);
INSERT INTO "gpu_service" VALUES('GPU-00000000-51d0-0000-0000-000000000003',1.7956393854455657005e+09,1,NULL,NULL);
INSERT INTO "gpu_service" VALUES('GPU-00000000-51d0-0000-0000-000000000003',1.79563938790804219244e+09,1,'fan',NULL);
CREATE TABLE gpus (
    uuid         TEXT    NOT NULL PRIMARY KEY,
    idx          INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    memory_bytes INTEGER NOT NULL,
    simulated    INTEGER NOT NULL CHECK (simulated IN (0, 1)),
    present      INTEGER NOT NULL CHECK (present IN (0, 1)),
    drained      INTEGER NOT NULL DEFAULT 0 CHECK (drained IN (0, 1)),
    drain_reason TEXT
, numa_node INTEGER, cpus TEXT, links TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(links)), mig INTEGER NOT NULL DEFAULT 0 CHECK (mig IN (0, 1)), board TEXT, released_at REAL) WITHOUT ROWID;
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000000',0,'Simulated GPU',25769803776,1,1,0,NULL,NULL,NULL,'{}',0,NULL,1.79563938659433507917e+09);
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000001',1,'Simulated GPU',25769803776,1,1,0,NULL,NULL,NULL,'{}',0,NULL,NULL);
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000002',2,'Simulated GPU',25769803776,1,1,0,NULL,NULL,NULL,'{}',0,NULL,NULL);
INSERT INTO "gpus" VALUES('GPU-00000000-51d0-0000-0000-000000000003',3,'Simulated GPU',25769803776,1,1,1,'fan',NULL,NULL,'{}',0,NULL,NULL);
CREATE TABLE held_count (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    n   INTEGER NOT NULL CHECK (n >= 0)
) WITHOUT ROWID;
INSERT INTO "held_count" VALUES(1,5002);
CREATE TABLE idempotency (
    user   TEXT NOT NULL,
    key    TEXT NOT NULL,
    body   TEXT NOT NULL,  -- SHA-256 of the request
    answer TEXT NOT NULL CHECK (json_valid(answer)),
    at     REAL NOT NULL,
    PRIMARY KEY (user, key)
) WITHOUT ROWID;
INSERT INTO "idempotency" VALUES('root','k','af98f99ed29486f61e84b4eccd381d7a9c0b1674f8739d0be776c8991d01a6b4','[{"id":21,"count":1,"array_id":null,"name":"keyed"}]',1.795639387927210331e+09);
CREATE TABLE idle_energy (
    hour          INTEGER NOT NULL, -- hours since the epoch
    gpu_uuid      TEXT    NOT NULL,
    energy_mj     INTEGER NOT NULL,
    energy_source TEXT    NOT NULL,
    PRIMARY KEY (hour, gpu_uuid)
) WITHOUT ROWID;
CREATE TABLE job_counts (
    state TEXT    NOT NULL PRIMARY KEY,
    n     INTEGER NOT NULL CHECK (n >= 0)
) WITHOUT ROWID;
INSERT INTO "job_counts" VALUES('cancelled',3);
INSERT INTO "job_counts" VALUES('failed',2);
INSERT INTO "job_counts" VALUES('lost',1);
INSERT INTO "job_counts" VALUES('pending',5007);
INSERT INTO "job_counts" VALUES('running',1);
INSERT INTO "job_counts" VALUES('starting',1);
INSERT INTO "job_counts" VALUES('stopping',1);
INSERT INTO "job_counts" VALUES('succeeded',5);
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
    version         INTEGER NOT NULL DEFAULT 1, tuned TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(tuned)), tuned_version INTEGER NOT NULL DEFAULT 0, queue TEXT NOT NULL DEFAULT 'default', gpu_type TEXT, gpu_memory_bytes INTEGER CHECK (gpu_memory_bytes > 0), exclusive INTEGER NOT NULL DEFAULT 0 CHECK (exclusive IN (0, 1)), preemptible INTEGER NOT NULL DEFAULT 0 CHECK (preemptible IN (0, 1)), urgent INTEGER NOT NULL DEFAULT 0 CHECK (urgent IN (0, 1)), signature TEXT NOT NULL DEFAULT '', predicted_s REAL CHECK (predicted_s > 0), spent_preempt INTEGER NOT NULL DEFAULT 0 CHECK (spent_preempt >= 0), order_at REAL NOT NULL DEFAULT 0, lane INTEGER NOT NULL DEFAULT 0 CHECK (lane IN (0, 1)), due_at REAL NOT NULL DEFAULT 0, alone_at REAL NOT NULL DEFAULT 0, short_s REAL NOT NULL DEFAULT 0,
    CHECK ((array_id IS NULL) = (array_index IS NULL)),
    CHECK ((ended_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost')))
);
INSERT INTO "jobs" VALUES(1,'{"argv":["/bin/sh","-c","echo done"],"shell":false,"cwd":"/","env":{},"name":"good","project":null,"labels":{"team":"vision"},"gpus":1,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','good','root',NULL,'{"team":"vision"}','succeeded',0,NULL,0,1,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.7956393858712730408e+09,1.7956393859207174778e+09,1.79563938598974061006e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',98,4,'{}',0,'default',NULL,NULL,0,0,0,'f149a9fb7a282efa',NULL,0,1.7956393858712730408e+09,1,1.79572578587127304082e+09,1.79823138587127304079e+09,86400.0);
INSERT INTO "jobs" VALUES(2,'{"argv":["/bin/sh","-c","exit 7"],"shell":false,"cwd":"/","env":{},"name":"bad","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":1,"retry_delay_s":0.1,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','bad','root',NULL,'{}','failed',0,NULL,0,0,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938590141701696e+09,1.7956393862007117272e+09,1.79563938621854829783e+09,NULL,NULL,NULL,2,1,0,0,0,7,NULL,'user','failed with exit code 7',0,7,'{}',0,'default',NULL,NULL,0,0,0,'329ec9e543219a5e',NULL,0,1.79563938590141701696e+09,1,1.79572578590141701702e+09,1.79823138590141701695e+09,86400.0);
INSERT INTO "jobs" VALUES(3,'{"argv":["/bin/sh","-c","sleep 60"],"shell":false,"cwd":"/","env":{},"name":"late","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":0.3,"grace_s":0.2,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','late','root',NULL,'{}','timed_out',0,NULL,0,0,0.3,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938592109799386e+09,1.79563938598943114276e+09,1.79563938639231872556e+09,NULL,NULL,NULL,1,0,0,0,0,NULL,15,'timeout','stopped at its wall-clock limit',0,4,'{}',0,'default',NULL,NULL,0,0,0,'bd1cc5fbae47fe43',NULL,0,1.79563938592109799386e+09,0,1.79563944592109799381e+09,1.79564118592109799379e+09,0.3);
INSERT INTO "jobs" VALUES(4,'{"argv":["/bin/sh","-c","exit 0"],"shell":false,"cwd":"/","env":{},"name":"sweep","project":"p","labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":"0-2","hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','sweep','root','p','{}','succeeded',0,NULL,0,0,NULL,0,NULL,4,0,NULL,NULL,NULL,0,0,1795639385.95998,1.79563938606957125662e+09,1.79563938618808579443e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',0,4,'{}',0,'default',NULL,NULL,0,0,0,'329ec9e543219a5e',NULL,0,1795639385.95998,1,1795725785.95998,1798231385.95998,86400.0);
INSERT INTO "jobs" VALUES(5,'{"argv":["/bin/sh","-c","exit 0"],"shell":false,"cwd":"/","env":{},"name":"sweep","project":"p","labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":"0-2","hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','sweep','root','p','{}','succeeded',0,NULL,0,0,NULL,0,NULL,4,1,NULL,NULL,NULL,0,0,1795639385.95998,1.79563938617333507534e+09,1.79563938619250273703e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',0,4,'{}',0,'default',NULL,NULL,0,0,0,'329ec9e543219a5e',NULL,0,1795639385.95998,1,1795725785.95998,1798231385.95998,86400.0);
INSERT INTO "jobs" VALUES(6,'{"argv":["/bin/sh","-c","exit 0"],"shell":false,"cwd":"/","env":{},"name":"sweep","project":"p","labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":"0-2","hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','sweep','root','p','{}','succeeded',0,NULL,0,0,NULL,0,NULL,4,2,NULL,NULL,NULL,0,0,1795639385.95998,1.79563938616395854953e+09,1.79563938619256782528e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',0,4,'{}',0,'default',NULL,NULL,0,0,0,'329ec9e543219a5e',NULL,0,1795639385.95998,1,1795725785.95998,1798231385.95998,86400.0);
INSERT INTO "jobs" VALUES(7,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"gone","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','gone','root',NULL,'{}','cancelled',1,'held at submission',0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.7956393860092828273e+09,NULL,1.79563938607001304624e+09,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,'cancelled','cancelled by root: not wanted',0,2,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.7956393860092828273e+09,1,1.79572578600928282736e+09,1.79823138600928282733e+09,86400.0);
INSERT INTO "jobs" VALUES(8,'{"argv":["/bin/sh","-c","echo up; sleep 600"],"shell":false,"cwd":"/","env":{},"name":"lost","project":null,"labels":{},"gpus":1,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":false,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','lost','root',NULL,'{}','lost',0,NULL,0,1,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.7956393862269427776e+09,1.79563938624971103667e+09,1.79563938659433507917e+09,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,'infra-node','the process that supervised the job was killed, so its end is unknown',357,4,'{}',0,'default',NULL,NULL,0,0,0,'0cb0ab44b0b99063',NULL,0,1.7956393862269427776e+09,1,1.79572578622694277762e+09,1.79823138622694277764e+09,86400.0);
INSERT INTO "jobs" VALUES(9,'{"argv":["/bin/sh","-c","exit 7"],"shell":false,"cwd":"/","env":{},"name":"bad","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":"default","priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":1,"retry_delay_s":0.1,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','bad','root',NULL,'{}','failed',0,NULL,0,0,NULL,1,NULL,NULL,NULL,NULL,2,2,0,0,1.79563938662499547006e+09,1.79563938686054253577e+09,1.7956393869331047535e+09,NULL,NULL,NULL,2,1,0,0,0,7,NULL,'user','failed with exit code 7',0,7,'{}',0,'default',NULL,NULL,0,0,0,'329ec9e543219a5e',1.02581145001749973744e-02,0,1.79563938662499547006e+09,1,1.79563944662499547005e+09,1.79564118662499547004e+09,1.02581145001749973744e-02);
INSERT INTO "jobs" VALUES(10,'{"argv":["/bin/sh","-c","echo ::leptond step=2 total=9 loss=$1; sleep 0.5","-","0.1"],"shell":false,"cwd":"/","env":{},"name":"swept","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{"lr":0.1},"rungs":{"first":1,"eta":2,"metric":"loss"}}','swept','root',NULL,'{}','succeeded',0,NULL,0,0,NULL,0,NULL,10,0,NULL,NULL,NULL,0,0,1.79563938664535617832e+09,1.79563938672100210187e+09,1.79563938728803396223e+09,NULL,NULL,NULL,1,0,0,0,0,0,NULL,'ok','finished',0,4,'{}',0,'default',NULL,NULL,0,0,0,'0c9b46d80daedbef',NULL,0,1.79563938664535617832e+09,1,1.79572578664535617825e+09,1.79823138664535617835e+09,86400.0);
INSERT INTO "jobs" VALUES(11,'{"argv":["/bin/sh","-c","echo ::leptond step=2 total=9 loss=$1; sleep 0.5","-","0.2"],"shell":false,"cwd":"/","env":{},"name":"swept","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{"lr":0.2},"rungs":{"first":1,"eta":2,"metric":"loss"}}','swept','root',NULL,'{}','cancelled',0,NULL,0,0,NULL,0,NULL,10,1,NULL,NULL,NULL,0,0,1.79563938664535617832e+09,1.79563938672107362747e+09,1.79563938697064924242e+09,NULL,NULL,NULL,1,0,0,0,0,NULL,15,'stopped-early','stopped early: rung 2, value 0.2, 2nd of 2; the best goes on',0,5,'{}',0,'default',NULL,NULL,0,0,0,'0c9b46d80daedbef',NULL,0,1.79563938664535617832e+09,1,1.79572578664535617825e+09,1.79823138664535617835e+09,86400.0);
INSERT INTO "jobs" VALUES(12,'{"argv":["/bin/sh","-c","echo ::leptond step=2 total=9 loss=$1; sleep 0.5","-","0.3"],"shell":false,"cwd":"/","env":{},"name":"swept","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{"lr":0.3},"rungs":{"first":1,"eta":2,"metric":"loss"}}','swept','root',NULL,'{}','cancelled',0,NULL,0,0,NULL,0,NULL,10,2,NULL,NULL,NULL,0,0,1.79563938664535617832e+09,1.79563938672522759431e+09,1.79563938698290324206e+09,NULL,NULL,NULL,1,0,0,0,0,NULL,15,'stopped-early','stopped early: rung 2, value 0.3, 3rd of 3; the best goes on',0,5,'{}',0,'default',NULL,NULL,0,0,0,'0c9b46d80daedbef',NULL,0,1.79563938664535617832e+09,1,1.79572578664535617825e+09,1.79823138664535617835e+09,86400.0);
INSERT INTO "jobs" VALUES(13,'{"argv":["/bin/sh","-c","echo up; sleep 600"],"shell":false,"cwd":"/","env":{},"name":"running","project":null,"labels":{},"gpus":2,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','running','root',NULL,'{}','running',0,NULL,0,2,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938730594730374e+09,1.79563938742854809762e+09,NULL,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,NULL,NULL,0,3,'{}',0,'default',NULL,NULL,0,0,0,'0cb0ab44b0b99063',NULL,0,1.79563938730594730374e+09,1,1.79570048133184170724e+09,1.79823138730594730373e+09,86400.0);
INSERT INTO "jobs" VALUES(14,'{"argv":["/bin/sh","-c","trap '''' TERM; echo up; while :; do sleep 1; done"],"shell":false,"cwd":"/","env":{},"name":"stopping","project":null,"labels":{},"gpus":1,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":600.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','stopping','root',NULL,'{}','stopping',0,NULL,0,1,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938738388729097e+09,1795639387.51746,NULL,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,NULL,NULL,0,4,'{}',0,'default',NULL,NULL,0,0,0,'789b7ff7c017895c',NULL,0,1.79563938738388729097e+09,1,1.7957257873838872909e+09,1.79823138738388729092e+09,86400.0);
INSERT INTO "jobs" VALUES(15,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"held","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":5,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','held','root',NULL,'{}','pending',1,'held at submission',5,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938762189340592e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.7955673876218934059e+09,1,1.79565378762189340597e+09,1.79815938762189340589e+09,2700.0);
INSERT INTO "jobs" VALUES(16,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"waits","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":["13"],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','waits','root',NULL,'{}','pending',0,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,1,0,1.79563938763595986368e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.79563938763595986368e+09,1,1.7957257876359598637e+09,1.79823138763595986367e+09,86400.0);
INSERT INTO "jobs" VALUES(17,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"never","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":["1"],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','never','root',NULL,'{}','pending',0,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,1,1.79563938766663765906e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.79563938766663765906e+09,1,1.79572578766663765907e+09,1.79823138766663765905e+09,86400.0);
INSERT INTO "jobs" VALUES(18,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"later","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":"2100-01-01T00:00:00Z","log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','later','root',NULL,'{}','pending',0,NULL,0,0,NULL,0,4102444800.0,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938768080520627e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,4102444800.0,1,4102531200.0,4105036800.0,86400.0);
INSERT INTO "jobs" VALUES(19,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"wide","project":null,"labels":{},"gpus":4,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','wide','root',NULL,'{}','pending',0,NULL,0,4,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938770038270952e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.79563938770038270952e+09,1,1.79568258770038270948e+09,1.79823138770038270951e+09,86400.0);
INSERT INTO "jobs" VALUES(20,'{"argv":["false"],"shell":false,"cwd":"/","env":{},"name":"backoff","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":3,"retry_delay_s":3600.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":false,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','backoff','root',NULL,'{}','pending',0,NULL,0,0,NULL,3,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938772566676141e+09,1.79563938781812310217e+09,NULL,NULL,1.79564002870363903039e+09,2.93587674484365306858e+04,1,1,0,0,0,1,NULL,'user','failed with exit code 1',0,4,'{}',0,'default',NULL,NULL,0,0,0,'bcb248775a66c385',NULL,0,1.79563938772566676141e+09,1,1.79572578772566676143e+09,1.7982313877256667614e+09,86400.0);
INSERT INTO "jobs" VALUES(21,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"keyed","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','keyed','root',NULL,'{}','pending',1,'held at submission',0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.795639387927210331e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.795639387927210331e+09,1,1.79572578792721033093e+09,1.79823138792721033099e+09,86400.0);
INSERT INTO "jobs" VALUES(22,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"folded","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":"0-4999","hold":true,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','folded','root',NULL,'{}','pending',1,'held at submission',0,0,NULL,0,NULL,22,0,NULL,NULL,NULL,0,0,1.79563938793162202831e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.79563938793162202831e+09,1,1.79572578793162202837e+09,1.79823138793162202835e+09,86400.0);
INSERT INTO "jobs" VALUES(5022,'{"argv":["true"],"shell":false,"cwd":"/","env":{},"name":"starting","project":null,"labels":{},"gpus":0,"gpu_type":null,"gpu_memory_bytes":null,"exclusive":false,"queue":null,"priority":0,"time_limit_s":null,"grace_s":45.0,"warn_signal":null,"no_progress_s":null,"retries":0,"retry_delay_s":10.0,"retry_max_delay_s":900.0,"retry_on":[],"no_retry_on":[],"requeue":true,"fail_fast":true,"cold":false,"preemptible":false,"urgent":false,"after":[],"after_any":[],"after_fail":[],"array":null,"hold":true,"begin_at":null,"log_max_bytes":268435456,"output":null,"track":[],"params":{},"rungs":null}','starting','root',NULL,'{}','starting',0,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1.79563938794135046004e+09,NULL,NULL,NULL,NULL,NULL,1,0,0,0,0,NULL,NULL,NULL,NULL,0,1,'{}',0,'default',NULL,NULL,0,0,0,'dfaa16ea4d5c648a',NULL,0,1.79563938794135046004e+09,1,1.79572578794135046011e+09,1.79823138794135046003e+09,86400.0);
CREATE TABLE "leases" (
    gpu_uuid     TEXT NOT NULL REFERENCES gpus (uuid),
    attempt_id   TEXT NOT NULL REFERENCES attempts (id),
    since        REAL NOT NULL,
    memory_bytes INTEGER CHECK (memory_bytes > 0),  -- NULL: the whole GPU
    PRIMARY KEY (gpu_uuid, attempt_id)
) WITHOUT ROWID;
INSERT INTO "leases" VALUES('GPU-00000000-51d0-0000-0000-000000000000','cae1c45e4715b0b8c5acaa137dcf02dc',1.7956393873362467289e+09,NULL);
INSERT INTO "leases" VALUES('GPU-00000000-51d0-0000-0000-000000000001','cae1c45e4715b0b8c5acaa137dcf02dc',1.7956393873362467289e+09,NULL);
INSERT INTO "leases" VALUES('GPU-00000000-51d0-0000-0000-000000000002','07795d93ea6b963f7bd1d62d548a915f',1.79563938745001602176e+09,NULL);
CREATE TABLE ledger_days (
    day      INTEGER NOT NULL, -- days since the epoch, UTC
    gpu_uuid TEXT    NOT NULL,
    user     TEXT    NOT NULL DEFAULT '', -- empty: nobody's
    project  TEXT    NOT NULL DEFAULT '',
    queue    TEXT    NOT NULL DEFAULT '',
    box      TEXT    NOT NULL,
    cause    TEXT    NOT NULL DEFAULT '',
    price    INTEGER NOT NULL DEFAULT -1,
    ms       INTEGER NOT NULL CHECK (ms > 0),
    PRIMARY KEY (day, gpu_uuid, user, project, queue, box, cause, price)
) WITHOUT ROWID;
CREATE TABLE limits (
    kind        TEXT NOT NULL CHECK (kind IN ('user', 'project')),
    name        TEXT NOT NULL,
    max_gpus    INTEGER CHECK (max_gpus >= 0),
    max_pending INTEGER CHECK (max_pending >= 0),
    weight      REAL CHECK (weight > 0),
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('boot_id','da9a6d8f-7482-4a59-99e6-f27738265d3b');
INSERT INTO "meta" VALUES('lineage','ec10e4c6889865bf');
INSERT INTO "meta" VALUES('planner_figures','{"name":"auto","paused":false,"priority_step_s":14400.0,"class_gpu_s":7200.0,"min_run_s":300.0,"min_run_factor":20.0,"eviction_cost_s":60.0,"overdue_s":3600.0,"overdue_factor":160.0,"overdue_share":0.25,"overdue_batch_gpu_s":115200.0,"max_bypass_s":0.0,"unknown_run_s":86400.0,"limits":{"users":{"max_gpus":null,"max_pending":null},"projects":{"max_gpus":null,"max_pending":null},"own":{}},"fairness":{"half_life_s":604800.0,"max_handicap_s":14400.0}}');
INSERT INTO "meta" VALUES('planner_memory','{"owed_gpu_s":108000.0,"batch":false}');
INSERT INTO "meta" VALUES('share_half_life_s','604800.0');
INSERT INTO "meta" VALUES('starts','1');
CREATE TABLE metrics (
    job_id  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    n       INTEGER NOT NULL,  -- which report it was, a multiple of the stride
    attempt INTEGER NOT NULL,
    step    INTEGER,
    at      REAL    NOT NULL,
    data    TEXT    NOT NULL CHECK (json_valid(data)),
    PRIMARY KEY (job_id, n)
) WITHOUT ROWID;
INSERT INTO "metrics" VALUES(10,0,1,2,1.79563938678523182866e+09,'{"loss":0.1}');
INSERT INTO "metrics" VALUES(11,0,1,2,1.79563938681370472904e+09,'{"loss":0.2}');
INSERT INTO "metrics" VALUES(12,0,1,2,1.79563938682416892049e+09,'{"loss":0.3}');
CREATE TABLE past_attempts (
    id            TEXT    NOT NULL PRIMARY KEY,
    job_id        INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    name          TEXT    NOT NULL,
    user          TEXT    NOT NULL,
    project       TEXT,
    gpus          TEXT    NOT NULL,
    n_gpus        INTEGER NOT NULL,
    claimed_at    REAL    NOT NULL,
    startable_at  REAL,
    started_at    REAL,
    first_progress_at REAL,
    checkpoint_at REAL,
    stop_at       REAL,
    ended_at      REAL    NOT NULL,
    run_s         REAL,
    class         TEXT    NOT NULL,
    stop_reason   TEXT,
    gap_cause     TEXT,
    retries_saved INTEGER NOT NULL,
    job_state     TEXT    NOT NULL,
    job_class     TEXT
, queue TEXT, spared_ms INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE past_use (
    attempt_id       TEXT    NOT NULL REFERENCES past_attempts (id) ON DELETE CASCADE,
    gpu_uuid         TEXT    NOT NULL,
    sampled_ms       INTEGER NOT NULL,
    idle_ms          INTEGER NOT NULL,
    energy_mj        INTEGER,
    energy_source    TEXT,
    first_use_at     REAL,
    max_utilization  REAL,
    max_memory_bytes INTEGER,
    PRIMARY KEY (attempt_id, gpu_uuid)
) WITHOUT ROWID;
CREATE TABLE pending_counts (
    kind TEXT    NOT NULL CHECK (kind IN ('user', 'project', 'queue')),
    name TEXT    NOT NULL,
    n    INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
INSERT INTO "pending_counts" VALUES('project','p',0);
INSERT INTO "pending_counts" VALUES('queue','default',5007);
INSERT INTO "pending_counts" VALUES('user','root',5007);
CREATE TABLE queue_gpus (
    gpu_uuid TEXT NOT NULL PRIMARY KEY REFERENCES gpus (uuid),
    queue    TEXT NOT NULL REFERENCES queues (name) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE queues (
    name             TEXT    NOT NULL PRIMARY KEY,
    state            TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    weight           REAL    NOT NULL DEFAULT 1.0 CHECK (weight > 0),
    default_priority INTEGER NOT NULL DEFAULT 0,
    default_time_limit_s REAL CHECK (default_time_limit_s > 0),
    max_time_limit_s REAL CHECK (max_time_limit_s > 0),
    max_gpus         INTEGER CHECK (max_gpus >= 0),       -- of one job
    users            TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(users)),  -- empty: everybody
    borrow           INTEGER NOT NULL DEFAULT 0 CHECK (borrow IN (0, 1)),
    lend             TEXT    NOT NULL DEFAULT 'all' CHECK (lend IN ('all', 'preemptible', 'none')),
    version          INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;
INSERT INTO "queues" VALUES('default','open',1.0,0,NULL,NULL,NULL,'[]',0,'all',1);
CREATE TABLE rungs (
    id       INTEGER PRIMARY KEY,  -- in the order in which they were reached
    sweep_id INTEGER NOT NULL,
    job_id   INTEGER NOT NULL REFERENCES trials (job_id) ON DELETE CASCADE,
    rung     INTEGER NOT NULL CHECK (rung >= 1),
    step     INTEGER NOT NULL CHECK (step >= rung),  -- of the report that was taken
    value    REAL,                                   -- NULL: not a finite number
    at       REAL    NOT NULL,
    verdict  TEXT CHECK (verdict IN ('on', 'stop')), -- NULL: not decided yet
    note     TEXT,
    UNIQUE (job_id, rung)
);
INSERT INTO "rungs" VALUES(1,10,10,2,2,0.1,1.79563938684897732734e+09,'on',NULL);
INSERT INTO "rungs" VALUES(2,10,11,2,2,0.2,1.79563938684897732734e+09,'stop','stopped early: rung 2, value 0.2, 2nd of 2; the best goes on');
INSERT INTO "rungs" VALUES(3,10,12,2,2,0.3,1.79563938684897732734e+09,'stop','stopped early: rung 2, value 0.3, 3rd of 3; the best goes on');
CREATE TABLE runs (
    user            TEXT    NOT NULL,
    signature       TEXT    NOT NULL,
    gpus            INTEGER NOT NULL,
    last_s          REAL,
    before_s        REAL,
    eviction_cost_s REAL,
    at              REAL    NOT NULL,
    PRIMARY KEY (user, signature, gpus)
) WITHOUT ROWID;
INSERT INTO "runs" VALUES('root','0c9b46d80daedbef',0,0.524093891002849,NULL,NULL,1.79563938728803396223e+09);
INSERT INTO "runs" VALUES('root','329ec9e543219a5e',0,1.00596230004157405346e-02,1.04566059999342542141e-02,NULL,1.79563938619256782528e+09);
INSERT INTO "runs" VALUES('root','f149a9fb7a282efa',1,2.44792000012239441275e-02,NULL,NULL,1.79563938598974061006e+09);
CREATE TABLE shares (
    user    TEXT NOT NULL,
    project TEXT NOT NULL,  -- '' for none
    queue   TEXT NOT NULL,
    gpu_s   REAL NOT NULL CHECK (gpu_s >= 0),
    at      REAL NOT NULL,
    PRIMARY KEY (user, project, queue)
) WITHOUT ROWID;
INSERT INTO "shares" VALUES('root','','default',4.55598868739045481657e-01,1.79563938785902714725e+09);
INSERT INTO "shares" VALUES('root','p','default',0.0,1.79563938619256782528e+09);
CREATE TABLE spend (
    day         INTEGER NOT NULL, -- days since the epoch, UTC
    user        TEXT    NOT NULL,
    project     TEXT    NOT NULL DEFAULT '',
    gpu_ms      INTEGER NOT NULL DEFAULT 0,
    cost_micros INTEGER NOT NULL DEFAULT 0,
    unpriced_ms INTEGER NOT NULL DEFAULT 0, idle_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, user, project)
) WITHOUT ROWID;
INSERT INTO "spend" VALUES(20782,'root','',370,0,370,0);
CREATE TABLE successors (
    after      TEXT    NOT NULL PRIMARY KEY REFERENCES attempts (id) ON DELETE CASCADE,
    job_id     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    attempt_id TEXT    NOT NULL,
    boot_id    TEXT    NOT NULL,
    shim_pid   INTEGER NOT NULL,
    shim_start INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sweeps (
    id           INTEGER NOT NULL PRIMARY KEY,  -- jobs.array_id of its trials
    name         TEXT    NOT NULL,
    user         TEXT    NOT NULL,
    metric       TEXT    NOT NULL,
    mode         TEXT    NOT NULL CHECK (mode IN ('min', 'max')),
    halving      INTEGER NOT NULL CHECK (halving IN (0, 1)),
    eta          INTEGER NOT NULL CHECK (eta >= 2),
    -- the first rung; NULL: a trial has to say how many steps there are before that is known
    min_step     INTEGER CHECK (min_step >= 1),
    asked        TEXT    NOT NULL CHECK (json_valid(asked)),
    submitted_at REAL    NOT NULL
);
INSERT INTO "sweeps" VALUES(10,'swept','root','loss','min',1,2,1,'{"grid":{"lr":[0.1,0.2,0.3]},"random":{},"trials":3,"seed":0}',1.79563938664517760276e+09);
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
CREATE TABLE trials (
    job_id    INTEGER NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    sweep_id  INTEGER NOT NULL REFERENCES sweeps (id),
    params    TEXT    NOT NULL CHECK (json_valid(params)),
    -- of the metric; NULL while it has shown none, last also where it was not a finite number
    last      REAL,
    last_step INTEGER,
    best      REAL,
    best_step INTEGER
);
INSERT INTO "trials" VALUES(10,10,'{"lr":0.1}',0.1,2,0.1,2);
INSERT INTO "trials" VALUES(11,10,'{"lr":0.2}',0.2,2,0.2,2);
INSERT INTO "trials" VALUES(12,10,'{"lr":0.3}',0.3,2,0.3,2);
CREATE TABLE webhook_deliveries (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    hook     TEXT    NOT NULL,
    event_id INTEGER NOT NULL,
    event    TEXT    NOT NULL,
    at       REAL    NOT NULL,
    tries    INTEGER NOT NULL CHECK (tries >= 1),
    result   TEXT    NOT NULL CHECK (result IN ('delivered', 'refused', 'failed')),
    status   INTEGER,
    error    TEXT
);
CREATE TABLE webhooks (
    name     TEXT    NOT NULL PRIMARY KEY,
    event_id INTEGER NOT NULL,
    results  TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(results))
) WITHOUT ROWID;
INSERT INTO "webhooks" VALUES('output files',4,'{}');
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
CREATE INDEX attempts_gpu_end ON attempts (ended_at) WHERE n_gpus > 0;
CREATE INDEX attempts_gpu_live ON attempts (claimed_at) WHERE n_gpus > 0 AND state <> 'ended';
CREATE INDEX jobs_open_user ON jobs (user) WHERE ended_at IS NULL AND gpus > 0;
CREATE INDEX jobs_open_project ON jobs (project) WHERE ended_at IS NULL AND gpus > 0 AND project IS NOT NULL;
CREATE INDEX past_attempts_end ON past_attempts (ended_at);
CREATE INDEX attempts_by_end ON attempts (ended_at) WHERE state = 'ended' AND n_gpus > 0;
CREATE TRIGGER queues_keep_default BEFORE DELETE ON queues WHEN OLD.name = 'default'
BEGIN
    SELECT RAISE(ABORT, 'the default queue stays');
END;
CREATE INDEX queue_gpus_queue ON queue_gpus (queue);
CREATE TRIGGER jobs_need_queue BEFORE INSERT ON jobs
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;
CREATE TRIGGER jobs_move_to_queue BEFORE UPDATE OF queue ON jobs
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;
CREATE TRIGGER jobs_pending_insert AFTER INSERT ON jobs
BEGIN
    INSERT INTO pending_counts VALUES ('user', NEW.user, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts SELECT 'project', NEW.project, 1 WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_leave AFTER UPDATE OF state ON jobs
WHEN OLD.state = 'pending' AND NEW.state <> 'pending'
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'user' AND name = OLD.user;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'queue' AND name = OLD.queue;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'project' AND name = OLD.project;
END;
CREATE TRIGGER jobs_pending_return AFTER UPDATE OF state ON jobs
WHEN OLD.state <> 'pending' AND NEW.state = 'pending'
BEGIN
    INSERT INTO pending_counts VALUES ('user', NEW.user, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts SELECT 'project', NEW.project, 1 WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_project AFTER UPDATE OF project ON jobs
WHEN OLD.state = 'pending' AND NEW.state = 'pending' AND OLD.project IS NOT NEW.project
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'project' AND name = OLD.project;
    INSERT INTO pending_counts SELECT 'project', NEW.project, 1 WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_queue AFTER UPDATE OF queue ON jobs
WHEN OLD.state = 'pending' AND NEW.state = 'pending' AND OLD.queue <> NEW.queue
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'queue' AND name = OLD.queue;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_delete AFTER DELETE ON jobs WHEN OLD.state = 'pending'
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'user' AND name = OLD.user;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'queue' AND name = OLD.queue;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'project' AND name = OLD.project;
END;
CREATE INDEX leases_attempt ON leases (attempt_id);
CREATE UNIQUE INDEX leases_whole ON leases (gpu_uuid) WHERE memory_bytes IS NULL;
CREATE TRIGGER leases_need_life BEFORE INSERT ON leases
WHEN NOT EXISTS (SELECT 1 FROM attempts WHERE id = NEW.attempt_id AND state <> 'ended')
BEGIN
    SELECT RAISE(ABORT, 'a lease needs a live attempt');
END;
CREATE TRIGGER leases_whole_or_shared BEFORE INSERT ON leases
WHEN EXISTS (
    SELECT 1 FROM leases WHERE gpu_uuid = NEW.gpu_uuid AND (memory_bytes IS NULL OR NEW.memory_bytes IS NULL)
)
BEGIN
    SELECT RAISE(ABORT, 'a GPU is leased whole or in shares');
END;
CREATE TRIGGER leases_within_memory BEFORE INSERT ON leases
WHEN NEW.memory_bytes
     + (SELECT coalesce(sum(memory_bytes), 0) FROM leases WHERE gpu_uuid = NEW.gpu_uuid)
     > (SELECT memory_bytes FROM gpus WHERE uuid = NEW.gpu_uuid)
BEGIN
    SELECT RAISE(ABORT, 'the shares of a GPU are within its memory');
END;
CREATE TRIGGER leases_do_not_change BEFORE UPDATE ON leases
BEGIN
    SELECT RAISE(ABORT, 'a lease does not change');
END;
CREATE TRIGGER attempts_end_without_leases BEFORE UPDATE OF state ON attempts
WHEN NEW.state = 'ended' AND EXISTS (SELECT 1 FROM leases WHERE attempt_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'an attempt ends after its leases');
END;
CREATE INDEX webhook_deliveries_hook ON webhook_deliveries (hook, id);
CREATE INDEX attempts_output ON attempts (ended_at) WHERE state = 'ended' AND log_removed = 0;
CREATE INDEX dependencies_of ON dependencies (on_job_id);
CREATE INDEX jobs_by_order_cpu ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus = 0;
CREATE INDEX jobs_preemptible ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND preemptible = 1;
CREATE INDEX runs_at ON runs (at);
CREATE INDEX folds_array ON folds (array_id, id);
CREATE INDEX folds_queue ON folds (priority DESC, id) WHERE state = 'pending';
CREATE INDEX folds_ended ON folds (ended_at) WHERE ended_at IS NOT NULL;
CREATE TRIGGER folds_apart BEFORE INSERT ON folds
WHEN EXISTS (SELECT 1 FROM jobs WHERE id BETWEEN NEW.id AND NEW.last_id)
     OR EXISTS (SELECT 1 FROM folds WHERE id <= NEW.last_id AND last_id >= NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'a job is folded or not');
END;
CREATE TRIGGER folds_only_shrink BEFORE UPDATE OF id, last_id ON folds
WHEN NEW.id < OLD.id OR NEW.last_id > OLD.last_id
BEGIN
    SELECT RAISE(ABORT, 'a fold only shrinks');
END;
CREATE TRIGGER jobs_apart AFTER INSERT ON jobs
WHEN NEW.array_id IS NOT NULL
     AND (SELECT last_id FROM folds WHERE id <= NEW.id ORDER BY id DESC LIMIT 1) >= NEW.id
BEGIN
    SELECT RAISE(ABORT, 'a job is folded or not');
END;
CREATE TRIGGER folds_end_once BEFORE UPDATE OF state ON folds WHEN OLD.state = 'cancelled' AND NEW.state <> 'cancelled'
BEGIN
    SELECT RAISE(ABORT, 'illegal transition of a job');
END;
CREATE TRIGGER folds_need_queue BEFORE INSERT ON folds
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;
CREATE TRIGGER folds_move_to_queue BEFORE UPDATE OF queue ON folds
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;
CREATE TRIGGER jobs_held_insert AFTER INSERT ON jobs WHEN NEW.held = 1
BEGIN
    UPDATE held_count SET n = n + 1;
END;
CREATE TRIGGER jobs_held_change AFTER UPDATE OF held, state ON jobs
WHEN (OLD.held = 1 AND OLD.state = 'pending') <> (NEW.held = 1 AND NEW.state = 'pending')
BEGIN
    UPDATE held_count SET n = n + CASE WHEN NEW.held = 1 AND NEW.state = 'pending' THEN 1 ELSE -1 END;
END;
CREATE TRIGGER jobs_held_delete AFTER DELETE ON jobs WHEN OLD.held = 1 AND OLD.state = 'pending'
BEGIN
    UPDATE held_count SET n = n - 1;
END;
CREATE TRIGGER folds_count_insert AFTER INSERT ON folds
BEGIN
    UPDATE job_counts SET n = n + NEW.last_id - NEW.id + 1 WHERE state = NEW.state;
    UPDATE held_count SET n = n + NEW.last_id - NEW.id + 1 WHERE NEW.held = 1 AND NEW.state = 'pending';
    INSERT INTO pending_counts SELECT 'user', NEW.user, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'queue', NEW.queue, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'project', NEW.project, NEW.last_id - NEW.id + 1
        WHERE NEW.state = 'pending' AND NEW.project IS NOT NULL ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER folds_count_delete AFTER DELETE ON folds
BEGIN
    UPDATE job_counts SET n = n - (OLD.last_id - OLD.id + 1) WHERE state = OLD.state;
    UPDATE held_count SET n = n - (OLD.last_id - OLD.id + 1) WHERE OLD.held = 1 AND OLD.state = 'pending';
    UPDATE pending_counts SET n = n - (OLD.last_id - OLD.id + 1)
        WHERE OLD.state = 'pending' AND ((kind = 'user' AND name = OLD.user)
            OR (kind = 'queue' AND name = OLD.queue) OR (kind = 'project' AND name = OLD.project));
END;
CREATE TRIGGER folds_count_change AFTER UPDATE OF id, last_id, state, held, project, queue ON folds
BEGIN
    UPDATE job_counts SET n = n - (OLD.last_id - OLD.id + 1) WHERE state = OLD.state;
    UPDATE job_counts SET n = n + NEW.last_id - NEW.id + 1 WHERE state = NEW.state;
    UPDATE held_count SET n = n - (OLD.last_id - OLD.id + 1) WHERE OLD.held = 1 AND OLD.state = 'pending';
    UPDATE held_count SET n = n + NEW.last_id - NEW.id + 1 WHERE NEW.held = 1 AND NEW.state = 'pending';
    UPDATE pending_counts SET n = n - (OLD.last_id - OLD.id + 1)
        WHERE OLD.state = 'pending' AND ((kind = 'user' AND name = OLD.user)
            OR (kind = 'queue' AND name = OLD.queue) OR (kind = 'project' AND name = OLD.project));
    INSERT INTO pending_counts SELECT 'user', NEW.user, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'queue', NEW.queue, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'project', NEW.project, NEW.last_id - NEW.id + 1
        WHERE NEW.state = 'pending' AND NEW.project IS NOT NULL ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER arrays_begin AFTER INSERT ON folds
BEGIN
    INSERT OR IGNORE INTO arrays SELECT NEW.array_id, count(*), NEW.queue, NEW.gpus, NEW.order_at, NEW.due_at,
        NEW.alone_at, NEW.short_s FROM jobs
        WHERE array_id = NEW.array_id AND state = 'pending' AND held = 0 AND deps_waiting = 0
        AND deps_failed = 0 AND backoff_boot IS NULL AND queue = NEW.queue AND gpus = NEW.gpus
        AND order_at = NEW.order_at AND due_at = NEW.due_at AND alone_at = NEW.alone_at AND short_s = NEW.short_s;
END;
CREATE TRIGGER arrays_end AFTER DELETE ON folds
WHEN NOT EXISTS (SELECT 1 FROM folds WHERE array_id = OLD.array_id)
BEGIN
    DELETE FROM arrays WHERE id = OLD.array_id;
END;
CREATE TRIGGER arrays_member_insert AFTER INSERT ON jobs WHEN NEW.array_id IS NOT NULL
BEGIN
    UPDATE arrays SET ready = ready + (NEW.state = 'pending' AND NEW.held = 0 AND NEW.deps_waiting = 0 AND NEW.deps_failed = 0
            AND NEW.backoff_boot IS NULL AND NEW.queue = queue AND NEW.gpus = gpus AND NEW.order_at = order_at
            AND NEW.due_at = due_at AND NEW.alone_at = alone_at AND NEW.short_s = short_s)
        WHERE id = NEW.array_id;
END;
CREATE TRIGGER arrays_member_change
AFTER UPDATE OF state, held, deps_waiting, deps_failed, backoff_boot, queue, gpus, order_at, due_at, alone_at, short_s ON jobs
WHEN NEW.array_id IS NOT NULL
BEGIN
    UPDATE arrays SET ready = ready
        + (NEW.state = 'pending' AND NEW.held = 0 AND NEW.deps_waiting = 0 AND NEW.deps_failed = 0
            AND NEW.backoff_boot IS NULL AND NEW.queue = queue AND NEW.gpus = gpus AND NEW.order_at = order_at
            AND NEW.due_at = due_at AND NEW.alone_at = alone_at AND NEW.short_s = short_s)
        - (OLD.state = 'pending' AND OLD.held = 0 AND OLD.deps_waiting = 0 AND OLD.deps_failed = 0
            AND OLD.backoff_boot IS NULL AND OLD.queue = queue AND OLD.gpus = gpus AND OLD.order_at = order_at
            AND OLD.due_at = due_at AND OLD.alone_at = alone_at AND OLD.short_s = short_s)
        WHERE id = NEW.array_id;
END;
CREATE TRIGGER arrays_member_delete AFTER DELETE ON jobs WHEN OLD.array_id IS NOT NULL
BEGIN
    UPDATE arrays SET ready = ready - (OLD.state = 'pending' AND OLD.held = 0 AND OLD.deps_waiting = 0 AND OLD.deps_failed = 0
            AND OLD.backoff_boot IS NULL AND OLD.queue = queue AND OLD.gpus = gpus AND OLD.order_at = order_at
            AND OLD.due_at = due_at AND OLD.alone_at = alone_at AND OLD.short_s = short_s)
        WHERE id = OLD.array_id;
END;
CREATE INDEX array_dependencies_on ON array_dependencies (on_array_id);
CREATE INDEX jobs_oldest ON jobs (id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND backoff_boot IS NULL;
CREATE INDEX successors_job ON successors (job_id);
CREATE INDEX jobs_by_order ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_due ON jobs (lane, due_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_due_alone ON jobs (alone_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_run ON jobs (short_s, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_urgent ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND urgent = 1 AND gpus > 0;
CREATE INDEX jobs_urgent_cpu ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND urgent = 1 AND gpus = 0;
CREATE INDEX jobs_by_owner ON jobs (user, queue, coalesce(project, ''), order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_owner_cpu ON jobs (user, queue, coalesce(project, ''), order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus = 0;
CREATE INDEX trials_sweep ON trials (sweep_id, job_id);
CREATE TRIGGER sweeps_end_with_their_trials AFTER DELETE ON trials
WHEN NOT EXISTS (SELECT 1 FROM trials WHERE sweep_id = OLD.sweep_id)
BEGIN
    DELETE FROM sweeps WHERE id = OLD.sweep_id;
END;
CREATE INDEX rungs_sweep ON rungs (sweep_id, rung, id);
CREATE INDEX rungs_open ON rungs (id) WHERE verdict IS NULL;
CREATE TRIGGER jobs_leave_their_time BEFORE DELETE ON jobs
BEGIN
    INSERT INTO past_attempts (id, job_id, number, name, user, project, queue, gpus, n_gpus, claimed_at, startable_at,
                               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
                               retries_saved, spared_ms, job_state, job_class)
        SELECT id, job_id, number, OLD.name, OLD.user, OLD.project, OLD.queue, gpus, n_gpus, claimed_at, startable_at,
               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
               retries_saved, spared_ms, OLD.state, OLD.class
        FROM attempts WHERE job_id = OLD.id AND n_gpus > 0 AND state = 'ended';
    INSERT INTO past_use
        SELECT attempt_use.* FROM attempt_use JOIN past_attempts ON past_attempts.id = attempt_use.attempt_id
        WHERE past_attempts.job_id = OLD.id;
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',83);
INSERT INTO "sqlite_sequence" VALUES('jobs',5022);
COMMIT;
PRAGMA user_version = 16;
