
-- The words of products. The identity is stored with them: row numbers may change in a vacuum.
create virtual table product_words using fts5 (id unindexed, name, description);

create trigger product_words_insert after insert on products begin
    insert into product_words (id, name, description) values (new.id, new.name, new.description);
end;

create trigger product_words_update after update of name, description on products begin
    update product_words set name = new.name, description = new.description where id = new.id;
end;

create trigger product_words_delete after delete on products begin
    delete from product_words where id = old.id;
end;
