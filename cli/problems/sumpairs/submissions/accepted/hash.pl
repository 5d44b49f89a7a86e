use strict;
use warnings;

my (undef, $sum) = split ' ', <STDIN>;
my (%seen, $pairs);
$pairs = 0;
for my $number (split ' ', <STDIN>) {
    $pairs++ if $seen{$sum - $number};
    $seen{$number} = 1;
}
print "$pairs\n";
