# Perl: hashes, strings, regular expressions.
my (%count, $sum, @lines);
for my $i (1 .. 150000) {
	$count{($i * 7919) % 10007} .= chr(65 + $i % 26);
}
for my $key (sort keys %count) {
	$sum = (($sum // 0) * 33 + length $count{$key}) % 1000003;
	push @lines, "$key=$count{$key};" if $count{$key} =~ /[AEIOU]{2}|X.Z/;
}
my $text = join ",", @lines;
my $vowels = ($text =~ tr/AEIOU//);
my $changed = ($text =~ s/([A-Z])([A-Z])(\d*)/$2$1$3/g);
print "$sum $vowels $changed ", length($text), " ", unpack("%32C*", $text), "\n";
