
-- The words of workflows. The identity is stored with them: row numbers may change in a vacuum.
create virtual table workflow_words using fts5 (id unindexed, name, description);

create trigger workflow_words_insert after insert on workflows begin
    insert into workflow_words (id, name, description) values (new.id, new.name, new.description);
end;

create trigger workflow_words_update after update of name, description on workflows begin
    update workflow_words set name = new.name, description = new.description where id = new.id;
end;

create trigger workflow_words_delete after delete on workflows begin
    delete from workflow_words where id = old.id;
end;
