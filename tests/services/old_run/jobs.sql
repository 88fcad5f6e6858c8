BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('r0008');
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
INSERT INTO "attempts" VALUES(1,1,'succeeded',NULL,'cmp_145dad73cab04311-1','2026-11-28 12:57:07.025631','2026-11-28 12:57:49.952673');
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
CREATE TABLE forgotten_jobs (
	id VARCHAR(64) NOT NULL, 
	tenant VARCHAR(64) NOT NULL, 
	stored_bytes BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
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
INSERT INTO "jobs" VALUES(1,'cmp_145dad73cab04311','succeeded',NULL,'{"teacher": {"model": "/tmp/old-run/teacher", "revision": null}, "corpus": {"paths": ["/tmp/old-run/corpus.txt"], "dataset": null, "dataset_config": null, "split": "train", "text_column": "text", "documents": "line", "heldout_fraction": 0.2}, "method": "autodistil", "subspaces": {"count": 3, "preset": "relative", "spaces": [{"name": "thin", "layers": [1, 2], "hidden_sizes": [8, 16], "mlp_ratios": [1.0], "heads": null}, {"name": "free", "layers": [2], "hidden_sizes": [16, 24], "mlp_ratios": [1.0], "heads": [1, 2]}], "importance": null}, "objective": {"relation": "kl", "relation_heads": null, "remainder": "spread", "relation_weights": [1.0, 1.0, 1.0], "output": null}, "training": {"tokens_per_superlm": 384, "sequence_length": 16, "batch_size": 4, "learning_rate": 0.001, "schedule": "linear", "warmup_fraction": 0.05, "weight_decay": 0.01, "clip_norm": 1.0, "dropout": 0.1, "random_subnets": 2, "workers": 1, "placement": "auto", "precision": "auto", "checkpoint_every_steps": 200, "max_failures": 2}, "search": {"heldout_blocks": 8, "searcher": "exhaustive", "candidates": null, "aim": "frontier", "first_rung_blocks": 16, "growth": 2, "population": 24, "mutation": 0.3}, "proxy_task": null, "polish": null, "export": {"onnx": false, "int8": false}, "latency_targets": [], "budgets": [{"name": "any", "max_params": 1000000000, "max_params_without_embeddings": null, "max_flops": null, "sequence_length": 16, "max_weight_bytes": null, "weight_dtype": "float32", "max_activation_bytes": null, "max_latency_ms": null, "latency_target": null, "latency_percentile": "p50"}, {"name": "none", "max_params": 10, "max_params_without_embeddings": null, "max_flops": null, "sequence_length": 16, "max_weight_bytes": null, "weight_dtype": "float32", "max_activation_bytes": null, "max_latency_ms": null, "latency_target": null, "latency_percentile": "p50"}], "seed": 1, "labels": {"team": "old"}}',1,NULL,'2026-11-28 12:56:58.331049','2026-11-28 12:57:07.025631','2026-11-28 12:57:49.952673','{"status": "succeeded", "students": [{"params": 6288, "flops": 65792, "sequence_length": 16, "params_without_embeddings": 3696, "weight_bytes": {"float32": 25152, "bfloat16": 12576, "float16": 12576}, "activation_bytes": 7168, "id": "stu_13f924993193e771", "budget": "any", "status": "ready", "subspace": "thin", "architecture": {"layers": 2, "hidden_size": 16, "intermediate_size": 16, "heads": 2, "head_width": 8, "source_layers": [0, 1]}, "heldout_loss": 0.10674402117729187, "task_score": null, "polished_tokens": 0, "latency": null, "latency_prediction": null, "exports": {}, "files": "artifacts/student/1861f68dd07fe1bfef413181/builds/cmp_145dad73cab04311-1"}], "infeasible": [{"budget": "none", "nearest": [{"params": 1848, "flops": 10304, "sequence_length": 16, "params_without_embeddings": 552, "weight_bytes": {"float32": 7392, "bfloat16": 3696, "float16": 3696}, "activation_bytes": 3072, "architecture": {"layers": 1, "hidden_size": 8, "intermediate_size": 8, "heads": 1, "head_width": 8, "source_layers": [0]}, "subspace": "thin", "heldout_loss": 0.12221851944923401, "misses": {"max_params": 184.8}, "latency_ms": null, "latency_source": null, "latency_agrees": null}, {"params": 2312, "flops": 20544, "sequence_length": 16, "params_without_embeddings": 1016, "weight_bytes": {"float32": 9248, "bfloat16": 4624, "float16": 4624}, "activation_bytes": 3584, "architecture": {"layers": 2, "hidden_size": 8, "intermediate_size": 8, "heads": 1, "head_width": 8, "source_layers": [0, 1]}, "subspace": "thin", "heldout_loss": 0.12160006165504456, "misses": {"max_params": 231.2}, "latency_ms": null, "latency_source": null, "latency_agrees": null}, {"params": 4592, "flops": 33024, "sequence_length": 16, "params_without_embeddings": 2000, "weight_bytes": {"float32": 18368, "bfloat16": 9184, "float16": 9184}, "activation_bytes": 6144, "architecture": {"layers": 1, "hidden_size": 16, "intermediate_size": 16, "heads": 2, "head_width": 8, "source_layers": [0]}, "subspace": "thin", "heldout_loss": 0.12406566739082336, "misses": {"max_params": 459.2}, "latency_ms": null, "latency_source": null, "latency_agrees": null}]}], "error": null, "artifacts": {"teacher": ["74456c173d708b3dba06b89b"], "corpus": ["1a5e38f75ee1bb7be12c5446"], "superlm": ["b10d85263419bb91e8b2e313", "5806c181a7776f8be4b7ffbc"], "scores": ["905564d0ac306cc4b8459f13"], "student": ["1861f68dd07fe1bfef413181"]}, "teacher": {"params": 19232, "flops": 3671040, "sequence_length": 128, "params_without_embeddings": 14048, "weight_bytes": {"float32": 76928, "bfloat16": 38464, "float16": 38464}, "activation_bytes": 114688, "fingerprint": "82c0cc726eb719a128e3ba190b863d858fcf953823adc04b84d860b43b789f35", "shape": {"family": "bert", "layers": 2, "hidden_size": 32, "heads": 4, "intermediate_size": 32, "vocab_size": 120, "positions": 40, "token_types": 2, "relative_buckets": 0, "pooler": true, "reserved_positions": 0}}, "pictures": {"frontier.png": "jobs/cmp_145dad73cab04311/attempts/1/frontier.png", "frontier.svg": "jobs/cmp_145dad73cab04311/attempts/1/frontier.svg"}, "plan": null, "evaluation": null, "stored_bytes": 256497, "seconds": 39.119}','[{"name": "teacher", "status": "succeeded", "done": 0, "total": null, "unit": "", "rate": null, "seconds_left": null, "reused": false, "note": null}, {"name": "corpus", "status": "succeeded", "done": 9579, "total": 9579, "unit": "bytes", "rate": 1083995.445076526, "seconds_left": null, "reused": false, "note": null}, {"name": "train-thin", "status": "succeeded", "done": 384, "total": 384, "unit": "tokens", "rate": 212075.02168602688, "seconds_left": null, "reused": false, "note": "placement thin + free: 2 CPUs shared by all groups, so one teacher forward for all is cheapest; a batch costs 6.5 teacher forwards together, 4.7 in the largest group apart"}, {"name": "train-free", "status": "succeeded", "done": 384, "total": 384, "unit": "tokens", "rate": 219576.3274436047, "seconds_left": null, "reused": false, "note": "placement thin + free: 2 CPUs shared by all groups, so one teacher forward for all is cheapest; a batch costs 6.5 teacher forwards together, 4.7 in the largest group apart"}, {"name": "search", "status": "succeeded", "done": 8, "total": 8, "unit": "candidates", "rate": 1.3827793947802225, "seconds_left": null, "reused": false, "note": null}, {"name": "students", "status": "succeeded", "done": 1, "total": 1, "unit": "students", "rate": null, "seconds_left": null, "reused": false, "note": null}]','compression',NULL,NULL,'cc77962467f2e35f75e3c45090d16efc977345fc0b55e6c7e75ff2bbd0119bf6',NULL,0,'local',NULL,NULL,NULL,NULL,768,256497);
CREATE TABLE "request_keys" (
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
CREATE TABLE tenants (
	name VARCHAR(64) NOT NULL, 
	max_running INTEGER, 
	max_unfinished INTEGER, 
	max_tokens BIGINT, 
	max_stored_bytes BIGINT, 
	created_at DATETIME NOT NULL, forgotten_tokens BIGINT DEFAULT '0' NOT NULL, forgotten_bytes BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (name)
);
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',1);
COMMIT;
