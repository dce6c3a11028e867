-- What became of what a job sent: which job a consumer owes the event's effect to, and what came back from which job.
ALTER TABLE unsettled ADD COLUMN job TEXT;
CREATE INDEX unsettled_job ON unsettled (job) WHERE job IS NOT NULL;
CREATE INDEX dead_letter_died_in ON dead_letter (died_in) WHERE died_in IS NOT NULL;
CREATE INDEX unrouted_marked_in ON unrouted (marked_in) WHERE marked_in IS NOT NULL;
