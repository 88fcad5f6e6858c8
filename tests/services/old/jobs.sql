PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES('r0008');
CREATE TABLE jobs (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR(64) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT, 
	request JSON NOT NULL, 
	attempt INTEGER NOT NULL, 
	not_before DATETIME, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	result JSON, 
	steps JSON, kind VARCHAR(16) DEFAULT 'compression' NOT NULL, parent VARCHAR(64), scores VARCHAR(64), digest VARCHAR(64), answer JSON, resumed_after INTEGER DEFAULT '0' NOT NULL, tenant VARCHAR(64) DEFAULT 'local' NOT NULL, batch VARCHAR(64), owner VARCHAR(128), token VARCHAR(32), claimed_until DATETIME, tokens BIGINT DEFAULT '0' NOT NULL, stored_bytes BIGINT DEFAULT '0' NOT NULL, 
	UNIQUE (id)
);
INSERT INTO jobs VALUES(1,'cmp_d6dec75b18d14e39','succeeded',NULL,'{"teacher": {"model": "someone/some-hub-model", "revision": null}, "corpus": {"paths": ["/data/text.txt"], "dataset": null, "dataset_config": null, "split": "train", "text_column": "text", "documents": "file", "heldout_fraction": 0.02}, "method": "autodistil", "subspaces": {"count": 3, "preset": "relative", "spaces": null, "importance": null}, "objective": {"relation": "kl", "relation_heads": null, "remainder": "spread", "relation_weights": [1.0, 1.0, 1.0], "output": null}, "training": {"tokens_per_superlm": 20000000, "sequence_length": 128, "batch_size": 32, "learning_rate": 0.001, "schedule": "linear", "warmup_fraction": 0.05, "weight_decay": 0.01, "clip_norm": 1.0, "dropout": 0.1, "random_subnets": 2, "workers": 1, "placement": "auto", "precision": "auto", "checkpoint_every_steps": 200, "max_failures": 2}, "search": {"heldout_blocks": 128, "searcher": "exhaustive", "candidates": null, "aim": "frontier", "first_rung_blocks": 16, "growth": 2, "population": 24, "mutation": 0.3}, "proxy_task": null, "polish": null, "export": {"onnx": false, "int8": false}, "latency_targets": [], "budgets": [{"name": "edge", "max_params": 8000000, "max_params_without_embeddings": null, "max_flops": null, "sequence_length": 128, "max_weight_bytes": null, "weight_dtype": "float32", "max_activation_bytes": null, "max_latency_ms": null, "latency_target": null, "latency_percentile": "p50"}], "seed": 0, "labels": {"team": "old"}}',1,NULL,'2026-11-28 10:30:41.905211','2026-11-28 10:30:41.930344','2026-11-28 10:30:41.943696','{"status": "succeeded", "students": [{"params": 1, "flops": 1, "sequence_length": 128, "params_without_embeddings": null, "weight_bytes": null, "activation_bytes": null, "id": "stu_old", "budget": "edge", "status": "ready", "subspace": "tiny", "architecture": {"layers": 2, "hidden_size": 128, "intermediate_size": 256, "heads": 4, "head_width": 32, "source_layers": [0, 3]}, "heldout_loss": 0.5, "task_score": null, "polished_tokens": 0, "latency": null, "latency_prediction": null, "exports": {}, "files": "artifacts/student/abe498f9c2020f710d60a085/builds/cmp_x-1"}], "infeasible": [], "error": null, "artifacts": {"scores": ["c4670384556c62eaec9253a4"], "student": ["abe498f9c2020f710d60a085"]}, "teacher": null, "pictures": {}, "plan": null, "evaluation": null, "stored_bytes": null, "seconds": 90.0}','[]','compression',NULL,NULL,'81deacea9b6cad7e39c76bdf6b666a27c0e6eb6b9359e5d83cdbe65dd2261264',NULL,0,'local',NULL,NULL,NULL,NULL,60000000,0);
INSERT INTO jobs VALUES(2,'sel_03ea68d2993a4b7f','queued',NULL,'{"teacher": {"model": "someone/some-hub-model", "revision": null}, "corpus": {"paths": ["/data/text.txt"], "dataset": null, "dataset_config": null, "split": "train", "text_column": "text", "documents": "file", "heldout_fraction": 0.02}, "method": "autodistil", "subspaces": {"count": 3, "preset": "relative", "spaces": null, "importance": null}, "objective": {"relation": "kl", "relation_heads": null, "remainder": "spread", "relation_weights": [1.0, 1.0, 1.0], "output": null}, "training": {"tokens_per_superlm": 20000000, "sequence_length": 128, "batch_size": 32, "learning_rate": 0.001, "schedule": "linear", "warmup_fraction": 0.05, "weight_decay": 0.01, "clip_norm": 1.0, "dropout": 0.1, "random_subnets": 2, "workers": 1, "placement": "auto", "precision": "auto", "checkpoint_every_steps": 200, "max_failures": 2}, "search": {"heldout_blocks": 128, "searcher": "exhaustive", "candidates": null, "aim": "frontier", "first_rung_blocks": 16, "growth": 2, "population": 24, "mutation": 0.3}, "proxy_task": null, "polish": null, "export": {"onnx": false, "int8": false}, "latency_targets": [], "budgets": [{"name": "other", "max_params": 9000000, "max_params_without_embeddings": null, "max_flops": null, "sequence_length": 128, "max_weight_bytes": null, "weight_dtype": "float32", "max_activation_bytes": null, "max_latency_ms": null, "latency_target": null, "latency_percentile": "p50"}], "seed": 0, "labels": {"team": "old"}}',0,NULL,'2026-11-28 10:30:41.998020',NULL,NULL,NULL,NULL,'selection','cmp_d6dec75b18d14e39','c4670384556c62eaec9253a4','9f69896442750c46fcaf0d7b03742853dc1b0ae35766033c141670f0543a049f','{"students": [{"params": 5765600, "flops": 114058240, "sequence_length": 128, "params_without_embeddings": 799840, "weight_bytes": {"float32": 23062400, "bfloat16": 11531200, "float16": 11531200}, "activation_bytes": 737280, "id": "stu_505573e55281e16f", "budget": "other", "status": "pending", "subspace": "tiny", "architecture": {"layers": 3, "hidden_size": 160, "intermediate_size": 480, "heads": 5, "head_width": 32, "source_layers": [0, 2, 4]}, "heldout_loss": 0.008767450733940836, "task_score": null, "polished_tokens": 0, "latency": null, "latency_prediction": null, "exports": {}, "files": null}], "infeasible": [], "unanswered": [], "provisional": false, "note": null}',0,'local',NULL,NULL,NULL,NULL,0,0);
INSERT INTO jobs VALUES(3,'cmp_6f52478e42454e4b','failed','It broke.','{"teacher": {"model": "someone/some-hub-model", "revision": null}, "corpus": {"paths": ["/data/text.txt"], "dataset": null, "dataset_config": null, "split": "train", "text_column": "text", "documents": "file", "heldout_fraction": 0.02}, "method": "autodistil", "subspaces": {"count": 3, "preset": "relative", "spaces": null, "importance": null}, "objective": {"relation": "kl", "relation_heads": null, "remainder": "spread", "relation_weights": [1.0, 1.0, 1.0], "output": null}, "training": {"tokens_per_superlm": 20000000, "sequence_length": 128, "batch_size": 32, "learning_rate": 0.001, "schedule": "linear", "warmup_fraction": 0.05, "weight_decay": 0.01, "clip_norm": 1.0, "dropout": 0.1, "random_subnets": 2, "workers": 1, "placement": "auto", "precision": "auto", "checkpoint_every_steps": 200, "max_failures": 2}, "search": {"heldout_blocks": 128, "searcher": "exhaustive", "candidates": null, "aim": "frontier", "first_rung_blocks": 16, "growth": 2, "population": 24, "mutation": 0.3}, "proxy_task": null, "polish": null, "export": {"onnx": false, "int8": false}, "latency_targets": [], "budgets": [{"name": "edge", "max_params": 8000000, "max_params_without_embeddings": null, "max_flops": null, "sequence_length": 128, "max_weight_bytes": null, "weight_dtype": "float32", "max_activation_bytes": null, "max_latency_ms": null, "latency_target": null, "latency_percentile": "p50"}], "seed": 4, "labels": {"team": "old"}}',1,NULL,'2026-11-28 10:30:42.062274','2026-11-28 10:30:42.193431','2026-11-28 10:30:42.202149','{"status": "failed", "students": [], "infeasible": [], "error": {"code": "internal", "message": "It broke.", "field": null, "remedy": null}, "artifacts": {}, "teacher": null, "pictures": {}, "plan": null, "evaluation": null, "stored_bytes": null, "seconds": 0.0}','[{"name": "train-tiny", "status": "failed", "done": 3, "total": 9, "unit": "steps", "rate": null, "seconds_left": null, "reused": false, "note": null}]','compression',NULL,NULL,'512dab04fa9b95f0ea2a5307db3b8c962b475ee170b78e411dd4d3c265add8c4',NULL,0,'local',NULL,NULL,NULL,NULL,60000000,0);
INSERT INTO jobs VALUES(4,'pln_671ce5df45ed4d2b','queued',NULL,'{"teacher": {"model": "someone/some-hub-model", "revision": null}, "corpus": {"paths": ["/data/text.txt"], "dataset": null, "dataset_config": null, "split": "train", "text_column": "text", "documents": "file", "heldout_fraction": 0.02}, "method": "autodistil", "subspaces": {"count": 3, "preset": "relative", "spaces": null, "importance": null}, "objective": {"relation": "kl", "relation_heads": null, "remainder": "spread", "relation_weights": [1.0, 1.0, 1.0], "output": null}, "training": {"tokens_per_superlm": 20000000, "sequence_length": 128, "batch_size": 32, "learning_rate": 0.001, "schedule": "linear", "warmup_fraction": 0.05, "weight_decay": 0.01, "clip_norm": 1.0, "dropout": 0.1, "random_subnets": 2, "workers": 1, "placement": "auto", "precision": "auto", "checkpoint_every_steps": 200, "max_failures": 2}, "search": {"heldout_blocks": 128, "searcher": "exhaustive", "candidates": null, "aim": "frontier", "first_rung_blocks": 16, "growth": 2, "population": 24, "mutation": 0.3}, "proxy_task": null, "polish": null, "export": {"onnx": false, "int8": false}, "latency_targets": [], "budgets": [{"name": "edge", "max_params": 8000000, "max_params_without_embeddings": null, "max_flops": null, "sequence_length": 128, "max_weight_bytes": null, "weight_dtype": "float32", "max_activation_bytes": null, "max_latency_ms": null, "latency_target": null, "latency_percentile": "p50"}], "seed": 0, "labels": {"team": "old"}}',0,NULL,'2026-11-28 10:30:42.228899',NULL,NULL,NULL,NULL,'plan',NULL,NULL,'81deacea9b6cad7e39c76bdf6b666a27c0e6eb6b9359e5d83cdbe65dd2261264',NULL,0,'local',NULL,NULL,NULL,NULL,0,0);
INSERT INTO jobs VALUES(5,'cmp_7bc77866f5a641ba','queued',NULL,'{"teacher": {"model": "someone/some-hub-model", "revision": null}, "corpus": {"paths": ["/data/text.txt"], "dataset": null, "dataset_config": null, "split": "train", "text_column": "text", "documents": "file", "heldout_fraction": 0.02}, "method": "autodistil", "subspaces": {"count": 3, "preset": "relative", "spaces": null, "importance": null}, "objective": {"relation": "kl", "relation_heads": null, "remainder": "spread", "relation_weights": [1.0, 1.0, 1.0], "output": null}, "training": {"tokens_per_superlm": 20000000, "sequence_length": 128, "batch_size": 32, "learning_rate": 0.001, "schedule": "linear", "warmup_fraction": 0.05, "weight_decay": 0.01, "clip_norm": 1.0, "dropout": 0.1, "random_subnets": 2, "workers": 1, "placement": "auto", "precision": "auto", "checkpoint_every_steps": 200, "max_failures": 2}, "search": {"heldout_blocks": 128, "searcher": "exhaustive", "candidates": null, "aim": "frontier", "first_rung_blocks": 16, "growth": 2, "population": 24, "mutation": 0.3}, "proxy_task": null, "polish": null, "export": {"onnx": false, "int8": false}, "latency_targets": [], "budgets": [{"name": "edge", "max_params": 8000000, "max_params_without_embeddings": null, "max_flops": null, "sequence_length": 128, "max_weight_bytes": null, "weight_dtype": "float32", "max_activation_bytes": null, "max_latency_ms": null, "latency_target": null, "latency_percentile": "p50"}], "seed": 7, "labels": {"team": "old"}}',0,NULL,'2026-11-28 10:30:42.299001',NULL,NULL,NULL,NULL,'compression',NULL,NULL,'0a864467e2d68ed9e868ac768329cc92671090b8d8e25f05d0151cb7123d6b66',NULL,0,'local','bat_c5c603bbfbb14462',NULL,NULL,NULL,60000000,0);
INSERT INTO jobs VALUES(6,'evl_98a396cb305c470f','queued',NULL,'{"model": {"compression": "cmp_d6dec75b18d14e39", "student": "stu_old", "teacher": null}, "task": {"name": "task", "kind": "single", "train": ["/data/rows.jsonl"], "validation": null, "test": ["/data/rows.jsonl"], "text_columns": ["x"], "label_column": "label", "metric": "accuracy", "set_aside": 0.1, "max_train_rows": null}, "seeds": [0, 1, 2], "epochs": 3, "learning_rates": [5e-05], "batch_size": 32, "sequence_length": 128, "labels": {}, "files": "artifacts/student/abe498f9c2020f710d60a085/builds/cmp_x-1"}',0,NULL,'2026-11-28 10:30:42.342377',NULL,NULL,NULL,NULL,'evaluation','cmp_d6dec75b18d14e39',NULL,'7f5a1273180163f801089ef73f92c8dca91ce21ee60bb4d8935cd4fd9b20a8db',NULL,0,'local',NULL,NULL,NULL,NULL,1152,0);
CREATE TABLE attempts (
	job_number INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT, 
	submission_id VARCHAR(96) NOT NULL, 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	PRIMARY KEY (job_number, number), 
	FOREIGN KEY(job_number) REFERENCES jobs (number) ON DELETE CASCADE
);
INSERT INTO attempts VALUES(1,1,'succeeded',NULL,'cmp_d6dec75b18d14e39-1','2026-11-28 10:30:41.930344','2026-11-28 10:30:41.943696');
INSERT INTO attempts VALUES(3,1,'failed','It broke.','cmp_6f52478e42454e4b-1','2026-11-28 10:30:42.193431','2026-11-28 10:30:42.202149');
CREATE TABLE batches (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR(64) NOT NULL, 
	tenant VARCHAR(64) DEFAULT 'local' NOT NULL, 
	name VARCHAR(255), 
	labels JSON NOT NULL, 
	max_running INTEGER, 
	created_at DATETIME NOT NULL, 
	UNIQUE (id)
);
INSERT INTO batches VALUES(1,'bat_c5c603bbfbb14462','local','two','{"season": "spring"}',NULL,'2026-11-28 10:30:42.298815');
CREATE TABLE tenants (
	name VARCHAR(64) NOT NULL, 
	max_running INTEGER, 
	max_unfinished INTEGER, 
	max_tokens BIGINT, 
	max_stored_bytes BIGINT, 
	created_at DATETIME NOT NULL, forgotten_tokens BIGINT DEFAULT '0' NOT NULL, forgotten_bytes BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE api_keys (
	id VARCHAR(16) NOT NULL, 
	tenant VARCHAR(64) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	scopes JSON NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	revoked_at DATETIME, 
	last_used_at DATETIME, 
	PRIMARY KEY (id), 
	FOREIGN KEY(tenant) REFERENCES tenants (name) ON DELETE CASCADE
);
CREATE TABLE forgotten_jobs (
	id VARCHAR(64) NOT NULL, 
	tenant VARCHAR(64) NOT NULL, 
	stored_bytes BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS "request_keys" (
	scope VARCHAR(255) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	job_number INTEGER, 
	created_at DATETIME NOT NULL, 
	batch_number INTEGER, 
	PRIMARY KEY (scope, "key"), 
	CONSTRAINT fk_request_keys_batch FOREIGN KEY(batch_number) REFERENCES batches (number) ON DELETE CASCADE, 
	FOREIGN KEY(job_number) REFERENCES jobs (number) ON DELETE CASCADE
);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('jobs',6);
INSERT INTO sqlite_sequence VALUES('batches',1);
CREATE INDEX ix_jobs_status_number ON jobs (status, number);
CREATE INDEX ix_jobs_parent ON jobs (parent);
CREATE INDEX ix_jobs_digest ON jobs (digest);
CREATE INDEX ix_jobs_kind_number ON jobs (kind, number);
CREATE INDEX ix_jobs_tenant_kind_number ON jobs (tenant, kind, number);
CREATE INDEX ix_jobs_batch ON jobs (batch);
CREATE INDEX ix_jobs_owner ON jobs (owner);
CREATE INDEX ix_batches_tenant_number ON batches (tenant, number);
CREATE INDEX ix_api_keys_tenant ON api_keys (tenant);
CREATE INDEX ix_forgotten_jobs_tenant ON forgotten_jobs (tenant);
CREATE INDEX ix_request_keys_job_number ON request_keys (job_number);
CREATE INDEX ix_request_keys_batch_number ON request_keys (batch_number);
COMMIT;
